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

SUBSETS = ("all", "base", "new")
LISTINGS = ("sorted", "os")
TRANSFORMS = (
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop",
    "random_translation", "center_crop", "cutout", "imagenet_policy", "cifar10_policy",
    "svhn_policy", "randaugment", "randaugment_fixmatch", "randaugment2", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
)  # fmt: skip


# The options of a node TRAINER.<node>: name -> what is the same in all nodes.
CONTEXT = {
    "N_CTX": Option(4, "number of context tokens", field="n_ctx"),
    "CTX_INIT": Option(
        "a photo of a", "words to start from, '' = random vectors", field="ctx_init"
    ),
    "PREC": Option("fp16", "number format of the towers: fp32, fp16, amp, bf16", field="precision"),
}
COUPLED = {  # MaPLe's
    **CONTEXT,
    "N_CTX": Option(2, "number of prompts in a layer, of either tower", field="n_ctx"),
    "PROMPT_DEPTH": Option(9, "layers of both towers with prompts of their own", field="depth"),
}
INDEPENDENT = {  # of IVLP and PromptSRC
    "N_CTX_TEXT": Option(4, "number of prompts in a layer of the text tower", field="n_ctx"),
    "N_CTX_VISION": Option(
        4, "number of prompts in a layer of the image tower", field="n_ctx_visual"
    ),
    "CTX_INIT": CONTEXT["CTX_INIT"],
    "PREC": CONTEXT["PREC"],
    "PROMPT_DEPTH_VISION": Option(
        9, "layers of the image tower with prompts of their own, 0 = none", field="depth_visual"
    ),
    "PROMPT_DEPTH_TEXT": Option(
        9, "layers of the text tower with prompts of their own", field="depth"
    ),
}
PROMPTS = {"": {}, "context": CONTEXT, "coupled": COUPLED, "independent": INDEPENDENT}
"""What a trainer may learn -> the options of that."""
CLASS_TOKEN = {
    "CSC": Option(False, "a context of its own for each class", field="class_specific"),
    "CLASS_TOKEN_POSITION": Option(
        "end", "where the class name stands: end, middle, front", field="position"
    ),
}
VARIATIONAL = {
    "L": Option(10, "samples in training", field="n_samples"),
    "L_TEST": Option(0, "samples at test, 0 = L", field="n_samples_test"),
    "TEST_SEED": Option(
        0,
        "seed of the samples at test, which all images share; -1 draws anew for every batch",
        field="test_seed",
    ),
    "SAMPLER": Option(
        "gaussian", "independent draws, antithetic pairs, or randomised sobol points",
        field="sampler",
    ),
    "OBJECTIVE": Option(
        "iwae", "iwae: log of the mean likelihood (authors' code); elbo: mean of the logs (paper)",
        field="objective",
    ),
    "KL_WEIGHT": Option(0.001, "factor of the KL divergence, reduced", field="kl_weight"),
    "KL_REDUCTION": Option(
        "mean", "mean over dimensions, sum, or sum / training images (elbo: one posterior for all "
        "images; sum_per_image: one of each)", field="kl_reduction",
    ),
    "PRIOR_STD": Option(1.0, "standard deviation of the prior", field="prior_std"),
    "PRIOR_UNIT": Option(
        "absolute", "of PRIOR_STD and the deviation in LOGVAR_INIT: absolute, or token_rms, that "
        "of the words that prompts start from", field="prior_unit",
    ),
    "LOGVAR_INIT": Option(
        None, "log-variance to start from, None = the authors' initialisation", field="logvar_init"
    ),
    "POSTERIOR": Option(
        "gaussian", "gaussian: learned variance; fixed: constant; delta: none, a MAP estimate; "
        "low_rank: diagonal + rank RANK; mixture: a COMPONENT around each of several TEMPLATES, "
        "with RESIDUAL per_token", field="posterior",
    ),
    "TEMPLATES": Option(
        (), "of posterior mixture: prompts with {} for the class name, words before and behind it",
        field="templates",
    ),
    "COMPONENT": Option(
        "gaussian", "of posterior mixture: gaussian, fixed or delta", field="component"
    ),
    "RANK": Option(4, "columns of the factor of posterior low_rank", field="rank"),
    "RESIDUAL": Option("shared", "one residual for all prompts, one per_token, or one per_layer",
                       field="residual"),
    "LEARN_CONTEXT": Option(
        True, "False keeps the context at the words: only the posterior is learned",
        field="learn_context",
    ),
}  # fmt: skip
CONDITIONAL = {
    "CONDITIONAL": Option(False, "the posterior depends on the image", field="conditional"),
    "PRIOR_MEAN": Option(
        "zero", "of the prior: zero, or class_words, those of an image's class", field="prior_mean"
    ),
}
COUPLE_RESIDUAL = {
    "COUPLE_RESIDUAL": Option(
        False, "the residual reaches the image tower, too, which then runs for every sample",
        field="couple_residual",
    )
}  # fmt: skip
WEIGHTS = {  # of terms of the loss
    "W": Option(8.0, "weight of the distance from hand-written prompts", least=0, most=1e6),
    "TEXT_LOSS_WEIGHT": Option(
        25.0, "weight of the distance of text features from the frozen ones", least=0, most=1e6
    ),
    "IMAGE_LOSS_WEIGHT": Option(
        10.0, "weight of the distance of image features from the frozen ones", least=0, most=1e6
    ),
}
AVERAGE = {
    "GPA_MEAN": Option(15.0, "epoch that weighs most in the average", least=-1e6, most=1e6),
    "GPA_STD": Option(
        1.0, "epochs that weigh much, a standard deviation; 0 = no average", least=0, most=1e6
    ),
}
FOR_ALL = {  # read by every trainer, as each has a text tower; kept under its old name
    "TRAINER.VPT.MEM_BUDGET": Option(
        0, "bytes for text activations, 0 = half of the free memory", field="mem_budget",
        decides=False,
    ),
    "TEST.MERGE": Option(
        False, "one classifier: the samples' text features averaged, not their probabilities",
        field="merge",
    ),
}  # fmt: skip


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
