"""Other people's files and runtimes: ONNX, Keras, torch, safetensors. Each module imports its library when it is used."""
