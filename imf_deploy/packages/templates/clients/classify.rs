// Check the network: classify FOLDER; classify raw pixels (rows, columns, channels; one byte each):
// classify FOLDER PIXELS
// Cargo.toml: ort = { version = "=2.0.0-rc.10", default-features = false, features = ["std", "load-dynamic"] }
// ORT_DYLIB_PATH names the library, libonnxruntime.so.
use ort::{session::Session, value::{Tensor, ValueType}};
use std::{env, error::Error, fs, path::Path, process};

fn run(session: &mut Session, pixels: Vec<u8>) -> Result<Vec<f32>, Box<dyn Error>> {
    let (input, output) = (session.inputs[0].name.clone(), session.outputs[0].name.clone());
    let ValueType::Tensor { shape, .. } = session.inputs[0].input_type.clone() else {
        return Err("the input is not a tensor".into());
    };
    let mut shape: Vec<i64> = shape.iter().copied().collect();
    shape[0] = pixels.len() as i64 / shape[1..].iter().product::<i64>();
    let batch = Tensor::from_array((shape, pixels))?;
    let outputs = session.run(ort::inputs![input.as_str() => batch])?;
    Ok(outputs[output.as_str()].try_extract_tensor::<f32>()?.1.to_vec())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let folder = Path::new(&arguments[1]);
    let mut session = Session::builder()?.commit_from_file(folder.join("model.onnx"))?;
    if let Some(pixels) = arguments.get(2) {
        let logits = run(&mut session, fs::read(pixels)?)?;
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        println!("{}", fs::read_to_string(folder.join("labels.txt"))?.lines().nth(best).unwrap());
        return Ok(());
    }
    let vectors = folder.join("vectors");
    let logits = run(&mut session, fs::read(vectors.join("input.bin"))?)?;
    let expected = fs::read(vectors.join("logits.bin"))?;
    let differences = expected.chunks_exact(4).zip(&logits)
        .map(|(bytes, value)| (value - f32::from_le_bytes(bytes.try_into().unwrap())).abs());
    let largest = differences.fold(0.0, |worst: f32, each| if each <= worst { worst } else { each });
    let tolerance: f32 = fs::read_to_string(vectors.join("tolerance.txt"))?.trim().parse()?;
    println!("largest difference {largest}, tolerance {tolerance}");
    process::exit(if largest <= tolerance { 0 } else { 1 });
}
