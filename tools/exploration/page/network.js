// The forward pass. Batch norm is part of the weights (layers.py), so a layer is a linear map and perhaps SiLU.
// An image is a Float32Array (channels, height, width) in [0, 1], a code one of latentDim numbers.

import { about, array, latentDim } from "./data.js";

const { bottleneck, k, encode_k: encodeK } = about.model.spec;
const encoder = about.encoder.map(readLayer);
const decoder = about.decoder.map(readLayer);

function readLayer(layer) {
  return { ...layer, weight: array(layer.weight), bias: array(layer.bias) };
}

/** The encoder's output for an image. logVar: of a variational model, else null. */
export function encode(pixels) {
  const output = run(encoder, pixels);
  if (bottleneck === "gaussian") return { code: output.slice(0, latentDim), logVar: output.slice(latentDim) };
  return { code: sparsify(output, encodeK || k), logVar: null };
}

/** The image of a code, of which the decoder of a top_k model takes k entries. */
export function decode(code) {
  const taken = encodeK > k ? keepLargest(code, [...code.keys()].filter(unit => code[unit] !== 0), k) : code;
  return run(decoder, taken).map(value => 1 / (1 + Math.exp(-value)));
}

/** What a sparse bottleneck keeps of activations, top_k `count` of them; another one keeps all. */
export function sparsify(activations, count = k) {
  if (bottleneck === "relu") return activations.map(value => Math.max(0, value));
  return bottleneck === "top_k" ? keepLargest(activations, [...activations.keys()], count) : activations;
}

/** A code with the `count` largest activations of these units, and 0 elsewhere. */
function keepLargest(activations, units, count) {
  const order = units.sort((a, b) => activations[b] - activations[a] || a - b);
  const kept = new Float32Array(latentDim);
  for (const unit of order.slice(0, count)) kept[unit] = activations[unit];
  return kept;
}

const MAPS = { dense: applyDense, halve: applyHalving, double: applyDoubling };

function run(layers, input) {
  for (const layer of layers) {
    input = MAPS[layer.kind](layer, input);
    if (layer.silu) {
      for (let i = 0; i < input.length; i++) input[i] /= 1 + Math.exp(-input[i]);
    }
  }
  return input;
}

/** weight (outputs, inputs) times the input. */
function applyDense({ weight, bias }, input) {
  const inputs = input.length;
  const output = new Float32Array(bias.length);
  for (let row = 0, at = 0; row < bias.length; row++) {
    let sum = bias[row];
    for (let i = 0; i < inputs; i++) sum += weight[at++] * input[i];
    output[row] = sum;
  }
  return output;
}

/** A convolution, 3 x 3, stride 2, padding 1: output pixel y takes the rows 2y - 1, 2y, 2y + 1 of the input. */
function applyHalving({ weight, bias, inputs, outputs }, input) {
  const [channelsIn, rowsIn, columnsIn] = inputs;
  const [channelsOut, rows, columns] = outputs;
  const output = new Float32Array(channelsOut * rows * columns);
  for (let o = 0, at = 0; o < channelsOut; o++) {
    const plane = output.subarray(o * rows * columns, (o + 1) * rows * columns).fill(bias[o]);
    for (let i = 0; i < channelsIn; i++) {
      const source = i * rowsIn * columnsIn;
      for (let tap = 0; tap < 9; tap++) {
        const factor = weight[at++];
        const down = Math.floor(tap / 3) - 1;
        const right = (tap % 3) - 1;
        const first = right < 0 ? 1 : 0; // column whose input is inside
        const end = Math.min(columns, (columnsIn - right + 1) >> 1);
        for (let y = down < 0 ? 1 : 0; y < rows && 2 * y + down < rowsIn; y++) {
          const from = source + (2 * y + down) * columnsIn + right;
          for (let x = first; x < end; x++) plane[y * columns + x] += factor * input[from + 2 * x];
        }
      }
    }
  }
  return output;
}

/** A transposed convolution, 3 x 3, stride 2, padding 1: input pixel y adds to the rows 2y - 1, 2y, 2y + 1. */
function applyDoubling({ weight, bias, inputs, outputs }, input) {
  const [channelsIn, rowsIn, columnsIn] = inputs;
  const [channelsOut, rows, columns] = outputs;
  const output = new Float32Array(channelsOut * rows * columns);
  for (let o = 0; o < channelsOut; o++) {
    const plane = output.subarray(o * rows * columns, (o + 1) * rows * columns).fill(bias[o]);
    for (let i = 0; i < channelsIn; i++) {
      const source = i * rowsIn * columnsIn;
      for (let tap = 0, at = (i * channelsOut + o) * 9; tap < 9; tap++, at++) {
        const factor = weight[at];
        const down = Math.floor(tap / 3) - 1;
        const right = (tap % 3) - 1;
        const first = right < 0 ? 1 : 0; // column whose output is inside
        const end = Math.min(columnsIn, (columns - right + 1) >> 1);
        for (let y = down < 0 ? 1 : 0; y < rowsIn && 2 * y + down < rows; y++) {
          const to = (2 * y + down) * columns + right;
          const from = source + y * columnsIn;
          for (let x = first; x < end; x++) plane[to + 2 * x] += factor * input[from + x];
        }
      }
    }
  }
  return output;
}
