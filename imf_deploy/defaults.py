"""Defaults that the command line and the Python functions share; light, since ``--help`` reads it."""

DATA = "fashion-mnist-subset"
"""The embedded data set."""
STUDENT = "mobilenetv2"
PRODUCTS = "best"
"""Of the main job, which has validation images to choose by."""
PRECISIONS = "deploy"
"""Of the main job."""
EVERY_PRODUCT = "all"
EVERY_FILE = "fp32,fp16,int8"
BATCH_RANGE = "1:1:32"
OUTPUT = "imf-deploy-out"
QUICK_OUTPUT = "imf-deploy-quick"
"""Where ``--quick`` writes, so that no trial is in the place of a run."""

EPOCHS = 7
BATCH_SIZE = 64
LR = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARMUP = 0.1
CHECKPOINT_MINUTES = 10.0
TEACHER_OUTPUTS_GB = 8.0
# Off until a GPU has run it.
CUDA_GRAPH = False
LR_DROPS = (0.625, 0.75, 0.875)
"""Parts of the training after which the step schedule divides the rate by 10."""
ALPHA = 30.0
BETA = 20.0
TEMPERATURE = 4.0

QAT_EPOCHS = 0
QAT_LR_FACTOR = 0.02

TEACHER_EPOCHS = 24
TEACHER_BATCH_SIZE = 128
TEACHER_LR = 0.1
VAL_FRACTION = 0.1
BENCH_SECONDS = 1.0

CALIBRATION_IMAGES = 512
MAX_ACCURACY_DROP = 1.0
"""In points: what INT8 may cost."""
MIN_AGREEMENT = 0.97
