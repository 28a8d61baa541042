// Check the network: java -cp onnxruntime.jar Classify.java FOLDER; classify raw pixels (rows, columns, channels;
// one byte each): java -cp onnxruntime.jar Classify.java FOLDER PIXELS
// The jar is com.microsoft.onnxruntime:onnxruntime from Maven Central.
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

public class Classify {
    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        try (OrtEnvironment environment = OrtEnvironment.getEnvironment();
                OrtSession session = environment.createSession(folder.resolve("model.onnx").toString())) {
            if (arguments.length > 1) {
                float[] logits = run(environment, session, Files.readAllBytes(Path.of(arguments[1])))[0];
                int best = 0;
                for (int i = 1; i < logits.length; i++) {
                    best = logits[i] > logits[best] ? i : best;
                }
                System.out.println(Files.readAllLines(folder.resolve("labels.txt")).get(best));
                return;
            }
            Path vectors = folder.resolve("vectors");
            float[][] logits = run(environment, session, Files.readAllBytes(vectors.resolve("input.bin")));
            ByteBuffer expected = ByteBuffer.wrap(Files.readAllBytes(vectors.resolve("logits.bin")));
            expected.order(ByteOrder.LITTLE_ENDIAN);
            double largest = 0;
            for (float[] row : logits) {
                for (float value : row) {
                    largest = Math.max(largest, Math.abs(value - expected.getFloat()));  // NaN stays
                }
            }
            double tolerance = Double.parseDouble(Files.readString(vectors.resolve("tolerance.txt")).trim());
            System.out.println("largest difference " + largest + ", tolerance " + tolerance);
            System.exit(largest <= tolerance ? 0 : 1);
        }
    }

    static float[][] run(OrtEnvironment environment, OrtSession session, byte[] pixels) throws Exception {
        String name = session.getInputNames().iterator().next();
        long[] shape = ((TensorInfo) session.getInputInfo().get(name).getInfo()).getShape();
        shape[0] = pixels.length / (shape[1] * shape[2] * shape[3]);
        ByteBuffer buffer = ByteBuffer.allocateDirect(pixels.length).put(pixels).rewind();
        try (OnnxTensor batch = OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.UINT8);
                OrtSession.Result result = session.run(Map.of(name, batch))) {
            return (float[][]) result.get(0).getValue();
        }
    }
}
