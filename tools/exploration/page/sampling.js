// Random codes and noise. Formulas as in model/sampling.py and training/corruption.py.

import { about, array, channels, height, latentDim, width } from "./data.js";
import { sparsify } from "./network.js";

/** A sample of N(0, 1), by Box and Muller. */
export function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/** A code from the prior of a variational model, or from the density of the training codes. */
export function sampleCode() {
  if (!about.model.components) return Float32Array.from({ length: latentDim }, normal);
  const weights = array("mixture.weights");
  let left = Math.random() * weights.reduce((sum, weight) => sum + weight);
  const component = Math.max(0, weights.findIndex(weight => (left -= weight) <= 0));
  const axes = array("mixture.axes"); // (rank, latentDim)
  const rank = axes.length / latentDim;
  const means = array("mixture.means").subarray(component * rank, (component + 1) * rank);
  const factors = array("mixture.factors").subarray(component * rank * rank, (component + 1) * rank * rank);
  const noise = Array.from({ length: rank }, normal);
  const code = array("mixture.mean").slice();
  for (let axis = 0; axis < rank; axis++) {
    let coordinate = means[axis];
    for (let i = 0; i <= axis; i++) coordinate += factors[axis * rank + i] * noise[i];
    for (let d = 0; d < latentDim; d++) code[d] += coordinate * axes[axis * latentDim + d];
  }
  return sparsify(code);
}

/** A sample of N(mean, spread^2 exp(logVar)). */
export function sampleAround(mean, logVar, spread) {
  return mean.map((value, d) => value + spread * Math.exp(0.5 * logVar[d]) * normal());
}

/** Draws that decide the noise, one set for an image: the same picture at every level. */
export function drawNoise() {
  const size = height * width;
  return {
    normal: Float32Array.from({ length: channels * size }, normal),
    uniform: Float32Array.from({ length: size }, Math.random),
  };
}

/** An image with the noise of the model's training, at a level. */
export function corrupt(pixels, level, draws) {
  const size = height * width;
  const kind = about.model.corruption.corruption;
  return pixels.map((value, i) => {
    if (kind === "gaussian") return Math.min(1, Math.max(0, value + level * draws.normal[i]));
    const place = draws.uniform[i % size]; // all channels of a pixel together
    if (place >= level) return value;
    return kind === "salt_and_pepper" && place < level / 2 ? 1 : 0;
  });
}
