"""Whether an INT8 ONNX file gives the same answers on every processor that ONNX Runtime runs on.

x86 processors without VNNI multiply bytes in pairs: ``vpmaddubsw`` adds two neighbouring products of uint8
and int8 in 16 bits, and the sum saturates at 32,767 and -32,768. Processors with VNNI or AMX, and ARM, add in
32 bits. A file whose sums can saturate is therefore two different classifiers.
"""
