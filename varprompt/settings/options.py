"""All options in one table: those that are added to Dassl's, and Dassl's that have limits here.

The table is read by the code that makes the tree of options, merges files and KEY VALUE pairs into
it, checks it, and compares two runs. What an option of the prompt means is known to
`varprompt.config.PromptConfig`, which checks its own fields.
"""

from __future__ import annotations

import math

from ..run.predictions import FORMATS
from ..run.schedule import SCHEDULES, WARMUPS
from ..towers.build import ACTIVATIONS
from ..uncertainty import CALIBRATORS
from .option import DASSL, Option, dassl, node_options, number, numbers, one_of
from .prompt_options import CLASS_TOKEN, CONTEXT, FOR_ALL, VARIATIONAL

SUBSETS = ("all", "base", "new")
LISTINGS = ("sorted", "os")
TRANSFORMS = (
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop",
    "random_translation", "center_crop", "cutout", "imagenet_policy", "cifar10_policy",
    "svhn_policy", "randaugment", "randaugment_fixmatch", "randaugment2", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
)  # fmt: skip


# What has no natural limit has one far beyond use, so that a slip is an answer at once and not a
# day of swapping.
OPTIONS: dict[str, Option] = {
    "DATALOADER.K_TRANSFORMS": one_of(1),
    "DATALOADER.NUM_WORKERS": number(0, 1000, decides=False),
    "DATALOADER.RETURN_IMG0": one_of(False),
    "DATALOADER.TEST.BATCH_SIZE": number(1, 10**6),
    "DATALOADER.TEST.SAMPLER": one_of("SequentialSampler"),
    "DATALOADER.TRAIN_X.BATCH_SIZE": number(1, 10**6),
    "DATALOADER.TRAIN_X.SAMPLER": one_of("RandomSampler", help="there are no domains"),
    "DATASET.LISTING": Option(
        "sorted", "order of ImageNet's files; os = the file system's, as in CoOp", LISTINGS
    ),
    "DATASET.PATH": Option("", "images of your own for the data set Folder"),
    "DATASET.PROMPTS": Option(
        "", "a file with synonyms and templates of the classes, see varprompt.prompt_texts"
    ),
    "DATASET.ROOT": dassl(help="folder of the data sets", decides=False),
    "DATASET.SUBSAMPLE_CLASSES": Option("all", "which half of the classes", SUBSETS),
    "INPUT.COLORJITTER_B": number(0, 100),
    "INPUT.COLORJITTER_C": number(0, 100),
    "INPUT.COLORJITTER_H": number(0, 0.5),
    "INPUT.COLORJITTER_S": number(0, 100),
    "INPUT.CROP_PADDING": number(0, 1000),
    "INPUT.CUTOUT_LEN": number(0, 10**4),
    "INPUT.CUTOUT_N": number(0, 1000),
    "INPUT.GB_K": number(1, 999),
    "INPUT.GB_P": number(0, 1),
    "INPUT.GN_MEAN": number(-1000, 1000),
    "INPUT.GN_STD": number(0, 1000),
    "INPUT.INTERPOLATION": one_of("bilinear", "bicubic", "nearest"),
    "INPUT.NO_TRANSFORM": one_of(False),
    "INPUT.PIXEL_MEAN": numbers(3, float, -1000, 1000),
    "INPUT.PIXEL_STD": numbers(3, float, 1e-6, 1000),
    "INPUT.RANDAUGMENT_M": number(0, 30),
    "INPUT.RANDAUGMENT_N": number(0, 100),
    "INPUT.RGS_P": number(0, 1),
    "INPUT.RRCROP_SCALE": numbers(2, float, 1e-6, 1),
    "INPUT.SIZE": numbers(2, int, 1, 10**4),
    "INPUT.TRANSFORMS": one_of(*TRANSFORMS),
    "MODEL.BACKBONE.ACTIVATION": Option(
        "", "quick_gelu or gelu, for a PATH that does not say it", ("", *ACTIVATIONS)
    ),
    "MODEL.BACKBONE.PATH": Option("", "a CLIP weight file, overrides MODEL.BACKBONE.NAME"),
    "MODEL.BACKBONE.PRETRAINED": one_of(True, help="a prompt for random towers means nothing"),
    "OPTIM.ADAM_BETA1": number(0, 0.999999),
    "OPTIM.ADAM_BETA2": number(0, 0.999999),
    "OPTIM.GAMMA": number(0, 1),
    "OPTIM.LR": number(0, 1000),
    "OPTIM.LR_SCHEDULER": one_of(*SCHEDULES),
    "OPTIM.MAX_EPOCH": number(0, 10**6),
    "OPTIM.MOMENTUM": number(0, 1),
    "OPTIM.NAME": one_of("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.RMSPROP_ALPHA": number(0, 1),
    "OPTIM.SGD_DAMPNING": number(0, 1),
    "OPTIM.STAGED_LR": one_of(False, help="would leave out what is in no layer: the context"),
    "OPTIM.STEPSIZE": numbers(0, int, -1, 10**6),
    "OPTIM.WARMUP_CONS_LR": number(0, 1000),
    "OPTIM.WARMUP_EPOCH": number(-1, 10**6),
    "OPTIM.WARMUP_MIN_LR": number(0, 1000),
    "OPTIM.WARMUP_TYPE": one_of(*WARMUPS),
    "OPTIM.WEIGHT_DECAY": number(0, 1000),
    "OUTPUT_DIR": dassl(decides=False),
    "RESUME": dassl(decides=False),
    "SEED": number(-math.inf, 2**32 - 1, "0 or more makes the run repeatable"),
    "TEST.CACHE_SIZE_GB": Option(
        5.0, "of all features of test images on disk, 0 = no cache", least=0,
        decides=False,
    ),
    "TEST.CALIBRATION": Option(
        "none", "none, temperature or distance; fitted without a test label", CALIBRATORS
    ),
    "TEST.EVALUATOR": Option(
        DASSL, "Calibration gives other people's trainers the figures that those here always have",
        ("Classification", "Calibration"), decides=False,
    ),
    "TEST.FINAL_MODEL": one_of("last_step", "best_val"),
    "TEST.PREDICTIONS": Option(
        "", "a table of all test images beside the results: csv or parquet", FORMATS, decides=False
    ),
    "TEST.SPLIT": one_of("val", "test"),
    "TRAIN.BALANCED": Option(
        False, "every class as often as any other in each epoch, however many images it has"
    ),
    "TRAIN.CHECKPOINT_FREQ": dassl(decides=False),
    "TRAIN.CHECKPOINT_STEPS": Option(
        0, "updates between two saved states, 0 = at the ends of epochs only",
        least=0, decides=False,
    ),
    "TRAIN.CLIP_GRAD_NORM": Option(
        0.0, "largest norm of the gradient of what is learned, 0 = off", least=0, most=10**6
    ),
    "TRAIN.COMPILE": Option(False, "torch.compile for the text tower; does not pay on a CPU"),
    "TRAIN.DETERMINISTIC": Option(False, "only deterministic algorithms; slower on a GPU"),
    "TRAIN.FEATURE_CACHE": Option(
        0, "N > 0: N augmented views of each training image are encoded before training, and epoch "
        "e sees view e mod N. Faster, but another stream of augmentations (and at most N different "
        "ones), so figures differ from N = 0. Takes N * images * E * 4 bytes.",
        least=0, most=1000,
    ),
    "TRAIN.MAX_BAD_STEPS": Option(
        0, "updates that may be left out because the loss or a gradient is NaN or infinite",
        least=0, decides=False,
    ),
    "TRAIN.PRINT_FREQ": number(1, math.inf, decides=False),
    "USE_CUDA": dassl(decides=False),
    "VERBOSE": dassl(decides=False),
    **node_options("COOP", CONTEXT | CLASS_TOKEN, N_CTX=16, CTX_INIT=""),
    **node_options("COCOOP", CONTEXT, N_CTX=16, CTX_INIT=""),
    **node_options("VPT", CONTEXT | VARIATIONAL),
    **FOR_ALL,
    "TRAINER.ZEROSHOT.TEMPLATES": Option(
        (), "prompts with {} for the class name, several are averaged; () = the trainer's own",
        template=True,
    ),
}  # fmt: skip

# Dassl's options that nothing here reads.
UNREAD = (
    "DATALOADER.TRAIN_U.", "DATALOADER.TRAIN_X.N_", "MODEL.HEAD.", "OPTIM.BASE_LR_MULT",
    "OPTIM.NEW_LAYERS", "TRAIN.COUNT_ITER",
)  # fmt: skip
