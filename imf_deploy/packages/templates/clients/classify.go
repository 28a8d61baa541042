// Check the network: go run classify.go FOLDER; classify raw pixels (rows, columns, channels; one byte each):
// go run classify.go FOLDER PIXELS
// go get github.com/yalue/onnxruntime_go; ONNXRUNTIME names the library, libonnxruntime.so.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func run(model string, pixels []byte) []float32 {
	inputs, outputs, err := ort.GetInputOutputInfo(model)
	must(0, err)
	shape := inputs[0].Dimensions
	shape[0] = int64(len(pixels)) / (shape[1] * shape[2] * shape[3])
	batch := must(ort.NewTensor(shape, pixels))
	logits := must(ort.NewEmptyTensor[float32](ort.NewShape(shape[0], outputs[0].Dimensions[1])))
	session := must(ort.NewAdvancedSession(model, []string{inputs[0].Name}, []string{outputs[0].Name},
		[]ort.Value{batch}, []ort.Value{logits}, nil))
	must(0, session.Run())
	return logits.GetData()
}

func main() {
	folder := os.Args[1]
	read := func(name string) []byte { return must(os.ReadFile(filepath.Join(folder, name))) }
	ort.SetSharedLibraryPath(os.Getenv("ONNXRUNTIME"))
	must(0, ort.InitializeEnvironment())
	model := filepath.Join(folder, "model.onnx")
	if len(os.Args) > 2 {
		logits := run(model, must(os.ReadFile(os.Args[2])))
		best := slices.Index(logits, slices.Max(logits))
		fmt.Println(strings.Split(string(read("labels.txt")), "\n")[best])
		return
	}
	logits := run(model, read("vectors/input.bin"))
	expected, largest := make([]float32, len(logits)), 0.0
	must(0, binary.Read(bytes.NewReader(read("vectors/logits.bin")), binary.LittleEndian, expected))
	for index, value := range logits {
		largest = math.Max(largest, math.Abs(float64(value-expected[index]))) // NaN stays
	}
	tolerance := must(strconv.ParseFloat(strings.TrimSpace(string(read("vectors/tolerance.txt"))), 64))
	fmt.Printf("largest difference %g, tolerance %g\n", largest, tolerance)
	if !(largest <= tolerance) {
		os.Exit(1)
	}
}
