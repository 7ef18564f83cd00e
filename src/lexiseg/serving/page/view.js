// Draws a photograph, the label map over it, and the score map of one word; reads class and score at a place.

const RAMP = [[0, [22, 16, 64]], [0.3, [122, 30, 110]], [0.55, [214, 64, 78]], [0.8, [250, 152, 52]], [1, [252, 250, 176]]];
const RAMP_TABLE = Uint8ClampedArray.from({ length: 256 * 3 }, (_, place) => ramp(Math.floor(place / 3) / 255)[place % 3]);

function ramp(value) {
  const above = Math.max(1, RAMP.findIndex(([at]) => at >= value));
  const [[low, from], [high, to]] = [RAMP[above - 1], RAMP[above]];
  return from.map((start, channel) => start + ((to[channel] - start) * (value - low)) / (high - low));
}

function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function rgb(colour) {
  const number = parseInt(colour.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

export class View {
  /** canvas: to draw on. read: called with {name, colour, score, x, y} at the pointer's place, or null off the picture. */
  constructor(canvas, read) {
    this.canvas = canvas;
    this.read = read;
    this.context = canvas.getContext("2d");
    this.opacity = 0.62;
    this.photo = this.map = this.heat = null;
    this.chosen = null; // the class whose region is outlined
    this.outlines = new Map();
    this.place = null; // of the keyboard's reading point, as fractions
    this.pending = false;
    this.listen();
  }

  setPhoto(bitmap) {
    this.photo = bitmap;
    this.canvas.width = bitmap.width;
    this.canvas.height = bitmap.height;
    this.canvas.style.setProperty("--ratio", bitmap.width / bitmap.height);
    this.setMap(null);
  }

  /** result: of /v1/classify, whose label map has the photograph's shape, perhaps at another size. */
  setMap(result) {
    this.result = result;
    this.heat = null;
    this.chosen = this.place = null;
    this.outlines.clear();
    this.map = result && painted(result);
    this.draw();
  }

  /** scores: of /v1/scores, or null for the label map. */
  setHeat(scores) {
    this.heat = scores && heated(scores);
    this.scores = scores;
    this.chosen = null;
    this.draw();
  }

  setOpacity(value) {
    this.opacity = value;
    this.draw();
  }

  outline(label) {
    if (this.chosen !== label) {
      this.chosen = label;
      this.draw();
    }
  }

  draw() {
    if (!this.pending) {
      this.pending = true;
      requestAnimationFrame(() => {
        this.pending = false;
        this.paint();
      });
    }
  }

  paint() {
    const { context, canvas, photo } = this;
    if (!photo) return;
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    if (this.heat) {
      context.globalAlpha = Math.max(0.25, this.opacity);
      context.drawImage(this.heat, 0, 0, canvas.width, canvas.height);
    } else if (this.map) {
      context.imageSmoothingEnabled = this.map.fill.width !== canvas.width;
      context.globalAlpha = this.opacity;
      context.drawImage(this.map.fill, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = Math.min(1, this.opacity * 1.4);
      context.drawImage(this.map.edges, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    if (this.chosen !== null && this.result) context.drawImage(this.outlined(this.chosen), 0, 0, canvas.width, canvas.height);
    if (this.place) this.cross();
  }

  outlined(label) {
    if (!this.outlines.has(label)) this.outlines.set(label, bordered(this.result, label));
    return this.outlines.get(label);
  }

  cross() {
    const { context, canvas } = this;
    const [x, y] = [this.place[0] * canvas.width, this.place[1] * canvas.height];
    const unit = canvas.width / Math.max(1, canvas.clientWidth);
    for (const [width, colour] of [[5, "rgba(0,0,0,.75)"], [2, "#fff"]]) {
      context.lineWidth = width * unit;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(x - 12 * unit, y);
      context.lineTo(x + 12 * unit, y);
      context.moveTo(x, y - 12 * unit);
      context.lineTo(x, y + 12 * unit);
      context.stroke();
    }
  }

  /** What is at a place, given as fractions of the picture. */
  at(x, y) {
    if (!this.result) return null;
    const [height, width] = this.result.size;
    const place = Math.min(height - 1, Math.floor(y * height)) * width + Math.min(width - 1, Math.floor(x * width));
    const label = this.result.labels[place];
    const found = this.result.classes[label];
    let score = this.result.scores ? this.result.scores[place] / 255 : null;
    if (this.heat) {
      const [h, w] = this.scores.grid;
      score = this.scores.scores[Math.min(h - 1, Math.floor(y * h)) * w + Math.min(w - 1, Math.floor(x * w))] / 255;
      const own = this.result.classes.find((one) => one.name === this.scores.name);
      return { name: this.scores.name, colour: own?.colour, score, label, x, y };
    }
    return { name: found ? found.name : "unlabelled", colour: found ? found.colour : this.result.unlabelled.colour, score, label, x, y };
  }

  listen() {
    const { canvas } = this;
    const over = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return this.leave();
      if (this.place) {
        this.place = null;
        this.draw();
      }
      this.show(x, y, event.pointerType !== "mouse");
    };
    canvas.addEventListener("pointermove", over);
    canvas.addEventListener("pointerdown", over);
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.leave());
    canvas.addEventListener("blur", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (event.key === "Escape") return this.leave();
    if (!move || !this.result || event.ctrlKey || event.altKey || event.metaKey) return undefined;
    event.preventDefault();
    const step = event.shiftKey ? 0.1 : 0.02;
    const [x, y] = this.place ?? [0.5, 0.5];
    this.place = [x + step * move[0], y + step * move[1]].map((value) => Math.min(0.999, Math.max(0, value)));
    this.draw();
    return this.show(...this.place, true);
  }

  show(x, y, said) {
    const found = this.at(x, y);
    if (!found) return;
    if (!this.heat) this.outline(found.label in this.result.classes ? found.label : null);
    this.read({ ...found, said, view: this });
  }

  leave() {
    this.place = null;
    this.outline(null);
    this.draw();
    this.read(null);
  }
}

/** The map as two pictures: colours, and the lines between regions. Unlabelled pixels are striped. */
function painted({ size: [height, width], labels, classes, unlabelled }) {
  const [fill, edges] = [blank(width, height), blank(width, height)];
  const [colours, lines] = [new ImageData(width, height), new ImageData(width, height)];
  const table = new Uint32Array(classes.length);
  classes.forEach(({ colour }, label) => { table[label] = pixel(...rgb(colour), 255); });
  const grey = rgb(unlabelled.colour);
  const [dark, light] = [pixel(...grey, 150), pixel(...grey.map((value) => value + 50), 90)];
  const white = pixel(255, 255, 255, 235);
  const [to, line] = [new Uint32Array(colours.data.buffer), new Uint32Array(lines.data.buffer)];
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      const label = labels[place];
      to[place] = label < table.length ? table[label] : (x + y) % 12 < 6 ? dark : light;
      if ((x + 1 < width && labels[place + 1] !== label) || (y + 1 < height && labels[place + width] !== label)) line[place] = white;
    }
  }
  fill.getContext("2d").putImageData(colours, 0, 0);
  edges.getContext("2d").putImageData(lines, 0, 0);
  return { fill, edges };
}

/** Everything but one class is dimmed, and its border drawn in white. */
function bordered({ size: [height, width], labels }, label) {
  const canvas = blank(width, height);
  const image = new ImageData(width, height);
  const to = new Uint32Array(image.data.buffer);
  const [white, shade] = [pixel(255, 255, 255, 255), pixel(0, 0, 0, 96)];
  const thick = Math.max(1, Math.round(width / 500));
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      if (labels[place] !== label) {
        to[place] = shade;
      } else if (
        (x >= thick && labels[place - thick] !== label) || (x + thick < width && labels[place + thick] !== label) ||
        (y >= thick && labels[place - thick * width] !== label) || (y + thick < height && labels[place + thick * width] !== label)
      ) {
        to[place] = white;
      }
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function heated({ grid: [height, width], scores }) {
  const canvas = blank(width, height);
  const image = new ImageData(width, height);
  const to = new Uint32Array(image.data.buffer);
  for (let place = 0; place < scores.length; place++) {
    const at = 3 * scores[place];
    to[place] = pixel(RAMP_TABLE[at], RAMP_TABLE[at + 1], RAMP_TABLE[at + 2], 255);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

function pixel(red, green, blue, alpha) {
  const [r, g, b] = [red, green, blue].map((value) => Math.min(255, Math.round(value)));
  return (LITTLE ? (alpha << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | alpha) >>> 0;
}
