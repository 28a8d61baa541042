// Check the network: classify FOLDER; classify raw pixels (rows, columns, channels; one byte each):
// classify FOLDER PIXELS
// g++ -std=c++17 classify.cpp -I ONNXRUNTIME/include ONNXRUNTIME/lib/libonnxruntime.so -o classify
#include <onnxruntime_c_api.h>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

static const OrtApi* ort = OrtGetApiBase()->GetApi(16);  // ONNX Runtime 1.16 and newer

static void check(OrtStatus* status) {
    if (status) std::fprintf(stderr, "%s\n", ort->GetErrorMessage(status)), std::exit(2);
}

static std::vector<char> read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) std::perror(path.c_str()), std::exit(2);
    return {std::istreambuf_iterator<char>(file), {}};
}

static std::vector<float> run(OrtSession* session, std::vector<char> pixels) {
    OrtAllocator* memory; OrtTypeInfo* type; const OrtTensorTypeAndShapeInfo* info; OrtMemoryInfo* cpu;
    OrtValue *batch, *result = nullptr; OrtTensorTypeAndShapeInfo* made; char *in, *out; float* data;
    int64_t shape[4]; size_t count;
    check(ort->GetAllocatorWithDefaultOptions(&memory));
    check(ort->SessionGetInputName(session, 0, memory, &in));
    check(ort->SessionGetOutputName(session, 0, memory, &out));
    check(ort->SessionGetInputTypeInfo(session, 0, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &info)), check(ort->GetDimensions(info, shape, 4));
    shape[0] = pixels.size() / (shape[1] * shape[2] * shape[3]);
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
    check(ort->CreateTensorWithDataAsOrtValue(cpu, pixels.data(), pixels.size(), shape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &batch));
    check(ort->Run(session, nullptr, &in, &batch, 1, &out, 1, &result));
    check(ort->GetTensorTypeAndShape(result, &made)), check(ort->GetTensorShapeElementCount(made, &count));
    check(ort->GetTensorMutableData(result, reinterpret_cast<void**>(&data)));
    return {data, data + count};
}

int main(int, char** arguments) {
    const std::string folder = arguments[1], vectors = folder + "/vectors/";
    OrtEnv* environment; OrtSessionOptions* options; OrtSession* session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "classify", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(environment, (folder + "/model.onnx").c_str(), options, &session));
    if (arguments[2]) {
        const auto logits = run(session, read(arguments[2]));
        std::ifstream labels(folder + "/labels.txt");
        std::string label;
        for (auto i = std::max_element(logits.begin(), logits.end()) + 1; i-- != logits.begin();)
            std::getline(labels, label);
        return std::printf("%s\n", label.c_str()), 0;
    }
    const auto logits = run(session, read(vectors + "input.bin"));
    const auto expected = read(vectors + "logits.bin");
    float largest = 0, value;
    for (size_t i = 0; i < logits.size(); i++) {
        std::memcpy(&value, expected.data() + 4 * i, 4);
        if (!(std::fabs(logits[i] - value) <= largest)) largest = std::fabs(logits[i] - value);
    }
    const auto text = read(vectors + "tolerance.txt");
    const float tolerance = std::stof(std::string(text.begin(), text.end()));
    std::printf("largest difference %g, tolerance %g\n", largest, tolerance);
    return largest <= tolerance ? 0 : 1;
}
