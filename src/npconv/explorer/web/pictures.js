/**
 * Colours of numbers, and animations as GIF files.
 *
 * The colours are those of npconv.plots: blue for negative, orange for positive, and zero is the paper. The two hues stay
 * apart for every common kind of colour blindness, and lightness says how far from zero a number is.
 */

/** Blue, paper, orange, in five stops; on dark paper (that of the style sheet) the ends are light. */
const LIGHT_STOPS = [[0x08, 0x30, 0x6b], [0x00, 0x72, 0xb2], [0xff, 0xff, 0xff], [0xd5, 0x5e, 0x00], [0x6e, 0x2f, 0x00]];
const DARK_STOPS = [[0xb9, 0xdd, 0xf7], [0x2f, 0x94, 0xd4], [0x16, 0x18, 0x1d], [0xe0, 0x74, 0x22], [0xff, 0xd2, 0xa6]];
/** How many steps the scale has, as in npconv.plots: an odd number has a middle one, which is zero exactly. */
const LEVELS = 257;
const GREY = [0x8a, 0x8f, 0x98];

/**
 * @param {number} value NaN is grey
 * @param {number} limit the magnitude that gets the strongest colour
 * @param {boolean} dark on dark paper
 * @returns {number[]} [red, green, blue], 0 to 255
 */
export function colour(value, limit, dark) {
  if (Number.isNaN(value)) return GREY;
  const stops = dark ? DARK_STOPS : LIGHT_STOPS, share = limit > 0 ? value / limit : Math.sign(value);
  const level = Math.min(LEVELS - 1, Math.floor(Math.min(1, Math.max(0, (share + 1) / 2)) * LEVELS));
  const place = (level / (LEVELS - 1)) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place));
  return stops[low].map((from, i) => Math.round(from + (stops[low + 1][i] - from) * (place - low)));
}

// ------------------------------------------------------------------ GIF
const MOST_COLOURS = 256;

/**
 * An animation that loops: GIF89a. Up to 256 colours are kept as they are, more are brought down to 256.
 * @param {{width: number, height: number, data: ArrayLike<number>}[]} frames RGBA of one size, as ImageData
 * @param {number[]} delays how long each frame stays, in milliseconds (GIF counts hundredths of a second, 2 at least)
 * @returns {Uint8Array} the file
 */
export function gifOf(frames, delays) {
  const { width, height } = frames[0], bytes = [], pictures = frames.map(colourNumbers);
  const { palette, placeOf } = paletteOf(counted(pictures));
  const bits = Math.max(1, Math.ceil(Math.log2(palette.length)));
  const short = (value) => bytes.push(value & 255, value >> 8);
  const text = (value) => bytes.push(...Array.from(value, (letter) => letter.charCodeAt(0)));
  text("GIF89a");
  short(width);
  short(height);
  bytes.push(0x80 | (bits - 1), 0, 0);  // a palette for all frames; no background, square pixels
  for (let i = 0; i < 1 << bits; i++) {
    const rgb = palette[i] ?? 0;
    bytes.push(rgb >> 16, (rgb >> 8) & 255, rgb & 255);
  }
  bytes.push(0x21, 0xff, 11);
  text("NETSCAPE2.0");
  bytes.push(3, 1, 0, 0, 0);  // loop for ever
  let before = null;
  pictures.forEach((picture, i) => {
    const places = placesOf(picture, placeOf), box = changed(before, places, width, height);
    before = places;
    bytes.push(0x21, 0xf9, 4, 4);  // leave the frame in place
    short(Math.min(0xffff, Math.max(2, Math.round(delays[i] / 10))));
    bytes.push(0, 0, 0x2c);
    short(box.left);
    short(box.top);
    short(box.width);
    short(box.height);
    bytes.push(0);
    const part = new Uint8Array(box.width * box.height);
    for (let y = 0; y < box.height; y++) {
      const from = (box.top + y) * width + box.left;
      part.set(places.subarray(from, from + box.width), y * box.width);
    }
    const least = Math.max(2, bits), code = compressed(part, least);
    bytes.push(least);
    for (let from = 0; from < code.length; from += 255) {
      const block = code.slice(from, from + 255);
      bytes.push(block.length);
      for (const byte of block) bytes.push(byte);
    }
    bytes.push(0);
  });
  bytes.push(0x3b);
  return Uint8Array.from(bytes);
}

/** Every pixel as one number, red first; what is transparent lies on white. */
function colourNumbers({ width, height, data }) {
  const picture = new Uint32Array(width * height);
  for (let i = 0, at = 0; i < picture.length; i++, at += 4) {
    const alpha = data[at + 3];
    const onWhite = (value) => (alpha === 255 ? value : Math.round((alpha * value + (255 - alpha) * 255) / 255));
    picture[i] = (onWhite(data[at]) << 16) | (onWhite(data[at + 1]) << 8) | onWhite(data[at + 2]);
  }
  return picture;
}

/** How often each colour stands in the pictures; neighbours are mostly alike and counted together. */
function counted(pictures) {
  const used = new Map();
  for (const picture of pictures) {
    for (let i = 0, from = 0; i < picture.length; from = i) {
      while (i < picture.length && picture[i] === picture[from]) i++;
      used.set(picture[from], (used.get(picture[from]) ?? 0) + i - from);
    }
  }
  return used;
}

/** The place in the palette of every pixel. */
function placesOf(picture, placeOf) {
  const places = new Uint8Array(picture.length);
  let last = -1, place = 0;
  for (let i = 0; i < picture.length; i++) {
    if (picture[i] !== last) {
      last = picture[i];
      place = placeOf.get(last);
    }
    places[i] = place;
  }
  return places;
}

/** The smallest box that holds every pixel that changed; a frame must have one pixel at least. */
function changed(before, places, width, height) {
  if (before === null) return { left: 0, top: 0, width, height };
  let left = width, right = -1, top = height, bottom = -1;
  for (let i = 0; i < places.length; i++) {
    if (places[i] === before[i]) continue;
    const x = i % width, y = (i - x) / width;
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  if (right < 0) return { left: 0, top: 0, width: 1, height: 1 };
  return { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** The palette of these colours, and the place of each in it. */
function paletteOf(used) {
  const colours = [...used.keys()];
  if (colours.length <= MOST_COLOURS) return { palette: colours, placeOf: new Map(colours.map((rgb, i) => [rgb, i])) };
  const boxes = medianCut(colours, used), palette = boxes.map((box) => meanColour(box, used)), placeOf = new Map();
  boxes.forEach((box, i) => box.forEach((rgb) => placeOf.set(rgb, i)));
  return { palette, placeOf };
}

const channelOf = (rgb, shift) => (rgb >> shift) & 255;

/** Split the box of colours with the widest channel at its median, until there are as many as a palette holds. */
function medianCut(colours, used) {
  const measured = (list) => {
    const spans = [16, 8, 0].map((shift) => {
      let low = 255, high = 0;
      for (const rgb of list) {
        low = Math.min(low, channelOf(rgb, shift));
        high = Math.max(high, channelOf(rgb, shift));
      }
      return [high - low, shift];
    });
    const [span, shift] = spans.reduce((widest, one) => (one[0] > widest[0] ? one : widest));
    return { list, span, shift };
  };
  const boxes = [measured(colours)];
  while (boxes.length < MOST_COLOURS) {
    const widest = boxes.reduce((best, box, i) => (box.span > boxes[best].span ? i : best), 0);
    const { list, span, shift } = boxes[widest];
    if (span === 0) break;
    const sorted = [...list].sort((a, b) => channelOf(a, shift) - channelOf(b, shift));
    const half = sorted.reduce((sum, rgb) => sum + used.get(rgb), 0) / 2;
    let at = 0;
    for (let sum = 0; sum < half; at++) sum += used.get(sorted[at]);
    at = Math.min(Math.max(1, at), sorted.length - 1);
    boxes.splice(widest, 1, measured(sorted.slice(0, at)), measured(sorted.slice(at)));
  }
  return boxes.map((box) => box.list);
}

function meanColour(box, used) {
  const total = box.reduce((sum, rgb) => sum + used.get(rgb), 0);
  const [red, green, blue] = [16, 8, 0].map((shift) =>
    Math.round(box.reduce((sum, rgb) => sum + channelOf(rgb, shift) * used.get(rgb), 0) / total));
  return (red << 16) | (green << 8) | blue;
}

/** LZW as GIF has it: codes of growing length, least significant bit first. */
function compressed(places, least) {
  const clear = 1 << least, end = clear + 1, bytes = [];
  const known = new Uint16Array(4096 << 8);  // the code of a run and one place more; 0 is none, as no longer run has it
  let held = 0, bitsHeld = 0, width = least + 1, next = end + 1;
  const put = (code) => {
    held |= code << bitsHeld;
    for (bitsHeld += width; bitsHeld >= 8; bitsHeld -= 8) {
      bytes.push(held & 255);
      held >>>= 8;
    }
  };
  put(clear);
  let run = places[0];
  for (let i = 1; i < places.length; i++) {
    const longer = (run << 8) | places[i];
    if (known[longer]) {
      run = known[longer];
      continue;
    }
    put(run);
    run = places[i];
    if (next === 4096) {  // the table is full: begin anew
      put(clear);
      known.fill(0);
      next = end + 1;
      width = least + 1;
    } else {
      if (next === 1 << width) width++;
      known[longer] = next++;
    }
  }
  put(run);
  put(end);
  if (bitsHeld > 0) bytes.push(held & 255);
  return bytes;
}
