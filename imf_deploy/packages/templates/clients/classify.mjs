// Check the network: node classify.mjs FOLDER; classify raw pixels (rows, columns, channels; one byte each):
// node classify.mjs FOLDER PIXELS
// npm install onnxruntime-node
import fs from "node:fs";
import path from "node:path";
import ort from "onnxruntime-node";

const [folder, pixels] = process.argv.slice(2);
const file = (...parts) => path.join(folder, ...parts);
const session = await ort.InferenceSession.create(file("model.onnx"));
const labels = fs.readFileSync(file("labels.txt"), "utf8").trimEnd().split("\n");
const { shape } = JSON.parse(fs.readFileSync(file("vectors", "vectors.json"))).input;

async function run(bytes) {
  const count = bytes.length / (shape[1] * shape[2] * shape[3]);
  const batch = new ort.Tensor("uint8", new Uint8Array(bytes), [count, ...shape.slice(1)]);
  const result = await session.run({ [session.inputNames[0]]: batch });
  return result[session.outputNames[0]].data;
}

if (pixels) {
  const logits = Array.from(await run(fs.readFileSync(pixels)));
  console.log(labels[logits.indexOf(Math.max(...logits))]);
} else {
  const logits = await run(fs.readFileSync(file("vectors", "input.bin")));
  const expected = fs.readFileSync(file("vectors", "logits.bin"));
  let largest = 0;
  logits.forEach((value, index) => {
    const difference = Math.abs(value - expected.readFloatLE(4 * index));
    if (!(difference <= largest)) largest = difference;
  });
  const tolerance = Number(fs.readFileSync(file("vectors", "tolerance.txt"), "utf8"));
  console.log(`largest difference ${largest}, tolerance ${tolerance}`);
  process.exit(largest <= tolerance ? 0 : 1);
}
