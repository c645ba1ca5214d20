"""Weight gradients summed as outer products in registers."""
