"""Every study's table, as data. A new one is an entry here, a file in conf/experiment/ and a folder in experiments/."""

from dataclasses import replace
from typing import Any

from locheads.report.figures import attention_sum_curve, figure6_scatter
from locheads.report.studies import layout as of
from locheads.report.studies.layout import Axis, Layout, Paper, Quantity, setting, sizes
from locheads.report.studies.runs import StudyRun

OUR_METHOD = "localization heads"
KIND = Axis("kind", lambda _: OUR_METHOD)
METHOD = replace(of.MODEL, name="method")
EVALUATED = Axis("data", lambda run: f"{of.DATA.of(run)} {of.SPLIT.of(run)}")
DISCOVERY = replace(of.FOUND_ON, name="discovery")
ON_VAL = {"data": "refcoco val"}
ABLATED = {"model": "LLaVA-1.5-13B", **ON_VAL}
"""See _WITHOUT_MODEL; a test compares the figures."""

_OF_PNG = ("all", "things", "stuff", "singulars", "plurals")
_SPLITS = {"refcoco": ("val", "testA", "testB"), "refcoco+": ("val", "testA", "testB"), "refcocog": ("val", "test")}


def _paper_of_all_splits(quantity: Quantity) -> Paper:
    places = [(data, split) for data, splits in _SPLITS.items() for split in splits]
    return Paper({f"{data}_{split}": ((data, split), quantity.key) for data, split in places})


def _of_all_splits(study: str, title: str, quantity: Quantity, notes: tuple[str, ...] = ()) -> Layout:
    """Tables 1 and 2."""
    return Layout(
        study,
        title,
        rows=(KIND, METHOD),
        columns=(of.DATA, of.SPLIT),
        quantities=(quantity,),
        paper=_paper_of_all_splits(quantity),
        to_do=lambda row: row[0] == OUR_METHOD,
        notes=notes,
    )


def _of_discovery(
    study: str, title: str, quantities: tuple[Quantity, ...], figures: dict[str, Quantity], *axes: Axis, **more: Any
) -> Layout:
    """A figure about discovery on RefCOCO. `figures`: column of paper.csv -> quantity; `axes`: its rows besides."""
    of_paper = Paper({name: ((), q.key) for name, q in figures.items()}, {"discovery": "refcoco train"})
    return Layout(study, title, (of.MODEL, DISCOVERY, *axes), quantities, paper=of_paper, **more)


def _criterion(run: StudyRun) -> str:
    return str(run.setting("criterion.score", "?")).replace("s_img_entropy", "s_img+entropy")


def _smoothing_rows(run: StudyRun) -> list[StudyRun]:
    """A run with the default kernel stands among the sigmas, one with the default sigma among the kernels."""
    kernel, sigma = int(run.setting("grounding.kernel", 0)), float(run.setting("grounding.sigma", -1))
    rows = [{"parameter": "sigma", "value": f"{sigma:.1f}"}] if kernel == 7 else []
    rows += [{"parameter": "kernel", "value": str(kernel)}] if sigma == 1 else []
    return [replace(run, part=row) for row in rows]


def _asked(run: StudyRun) -> str:
    """What of a phrase is asked, and with how much around it."""
    around = {"alone": "alone", "in_text": "in the caption"}[str(run.setting("dataset.asked", "alone"))]
    return f"{'its noun' if run.setting('dataset.phrases') == 'nouns' else 'the phrase'}, {around}"


def _protocol(run: StudyRun) -> str:
    if run.setting("dataset.expressions", "all") == "all":
        return "every expression, alone"
    together = run.setting("dataset.asked") == "in_text"
    return f"first expression, {'all of an image in one text' if together else 'alone'}"


def _tau_of(run: StudyRun) -> str:
    tau = run.setting("criterion.tau")
    return "elbow" if tau is None else f"{tau:g}"


_WITHOUT_MODEL = (
    "The paper prints this table without a model: the row of its defaults is what Tables 1 and 2 print for "
    "LLaVA-1.5-13B on RefCOCO val."
)
_BOTH = {quantity.key: ((), quantity.key) for quantity in (of.REC, of.RES)}
_LAYOUTS = (
    _of_all_splits("table1_rec", "Table 1: referring expression comprehension, Acc@0.5 in percent", of.REC),
    _of_all_splits(
        "table2_res",
        "Table 2: referring expression segmentation, cIoU in percent",
        of.RES,
        ("For DeepSeek-VL-7B on RefCOCO+ testA the paper prints 66.1 here and 67.1 in its Table 7.",),
    ),
    Layout(
        "table3_reasonseg",
        "Table 3: ReasonSeg, cIoU in percent",
        rows=(METHOD,),
        columns=(of.DATA, of.SPLIT, setting("dataset.query", "queries")),
        quantities=(of.RES,),
        paper=Paper(
            {
                "val_ciou": (("reasonseg", "val", "all"), of.RES.key),
                "test_short_ciou": (("reasonseg", "test", "short"), of.RES.key),
                "test_long_ciou": (("reasonseg", "test", "long"), of.RES.key),
                "test_overall_ciou": (("reasonseg", "test", "all"), of.RES.key),
            },
        ),
        varies=("dataset.query",),
        to_do=lambda row: not row[0].startswith("LISA"),
    ),
    Layout(
        "table4_head_count",
        "Table 4: number of heads k, RES cIoU in percent",
        rows=(of.MODEL, EVALUATED),
        columns=(Axis("k", lambda run: f"k={run.setting('heads.k')}"),),
        quantities=(of.RES,),
        paper=Paper({f"k{k}": ((f"k={k}",), of.RES.key) for k in range(1, 6)}, ON_VAL),
        varies=("heads.k",),
        notes=("The paper prints 65.4 as the average for k = 4; the mean of its own column is 66.63.",),
    ),
    Layout(
        "table5_criteria",
        "Table 5: selection and criterion, in percent",
        rows=(of.MODEL, EVALUATED, setting("selection.kind", "strategy"), Axis("criterion", _criterion)),
        quantities=(of.REC, of.RES),
        paper=Paper(_BOTH, ABLATED),
        varies=("criterion.", "selection."),
        notes=(
            _WITHOUT_MODEL,
            "The paper puts spatial entropy between 0 and 1; as it defines it, - sum P log P is not bounded by 1.",
        ),
    ),
    Layout(
        "table6_direct_output",
        "Table 6: asked for coordinates, and by localization heads, REC Acc@0.5 in percent",
        rows=(of.MODEL, EVALUATED),
        quantities=(of.DIRECT_REC, of.HEADS_REC, of.UNPARSABLE),
        paper=Paper(
            {
                "direct_coordinates_rec_refcocog": ((), of.DIRECT_REC.key),
                "localization_heads_rec_refcocog": ((), of.HEADS_REC.key),
            },
            {"data": "refcocog val"},
        ),
        varies=("direct.", "prompt."),
        notes=("How the paper asks, and how it reads the answers, is not known to us.",),
    ),
    Layout(
        "table7_flmm",
        "Table 7: beside F-LMM, RES cIoU in percent",
        rows=(KIND, METHOD, Axis("protocol", _protocol)),
        columns=(of.DATA, of.SPLIT),
        quantities=(of.RES,),
        paper=_paper_of_all_splits(of.RES),
        varies=("dataset.expressions", "dataset.asked", "prompt."),
        to_do=lambda row: row[0] == OUR_METHOD,
        notes=(
            "F-LMM's figures follow its own protocol: the first expression of each object, an image's in one text. "
            "The paper does not say how its own rows were asked; but for one figure they are those of its Table 2, "
            "where every expression is asked alone. Rows of different protocols do not compare.",
        ),
    ),
    Layout(
        "table8_smoothing",
        "Table 8: Gaussian smoothing, in percent",
        rows=(of.MODEL, EVALUATED, of.part("parameter"), of.part("value")),
        quantities=(of.REC, of.RES),
        paper=Paper(_BOTH, ABLATED),
        varies=("grounding.kernel", "grounding.sigma"),
        parts=_smoothing_rows,
        notes=(_WITHOUT_MODEL,),
    ),
    _of_discovery(
        "fig3_attention_sum",
        "Fig. 3: attention sum of every head, and its threshold",
        (of.TAU, of.ELIGIBLE, of.HEADS),
        {"tau": of.TAU},
        draw=attention_sum_curve,
    ),
    _of_discovery(
        "fig6_frequency_iou",
        "Fig. 6: selection frequency against the IoU of single heads",
        (of.SPEARMAN, of.P_VALUE, of.N_HEADS),
        {"spearman": of.SPEARMAN, "p": of.P_VALUE},
        to_do=lambda row: row[0] != "every model",
        draw=figure6_scatter,
    ),
    _of_discovery(
        "fig13_threshold",
        "Fig. 13: other thresholds on the attention sum",
        (of.HEADS, of.ELIGIBLE, of.REC),
        {"heads": of.HEADS},
        Axis("threshold", _tau_of),
        varies=("criterion.tau",),
        notes=("The paper says that other thresholds find the same three heads.",),
    ),
    _of_discovery(
        "fig14_candidates",
        "Fig. 14: candidates N per sample",
        (of.HEADS, of.REC),
        {"heads": of.HEADS},
        setting("criterion.candidates", "N"),
        varies=("criterion.candidates",),
        notes=("The paper says that N from 1 to 14 finds the same three heads.",),
    ),
    Layout(
        "compare_models",
        "Models side by side",
        rows=(of.MODEL, EVALUATED),
        quantities=(*of.ALL_METRICS, of.HEADS, of.DEPTH, of.TIME, of.MEMORY, of.DEVICE),
        varies=("prompt.", "model."),
        notes=(
            "Time and memory are of the attention pass that made the maps, the reading of images included; memory is "
            "the GPU's, or on a CPU the whole process's.",
        ),
    ),
    Layout(
        "prompts",
        "Prompts and query tokens, in percent",
        rows=(of.MODEL, EVALUATED, setting("prompt.name", "prompt"), setting("prompt.query", "query")),
        quantities=(*of.ALL_METRICS, of.HEADS),
        varies=("prompt.",),
    ),
    Layout(
        "rows",
        "Rows of the prompt and of the model's own answer",
        rows=(of.MODEL, EVALUATED, setting("prompt.query", "query")),
        quantities=(of.FOLLOWS, of.GAP, of.DEPENDENCE, *of.ALL_METRICS, of.FAILED, of.HEADS),
        varies=("prompt.query",),
        notes=(
            "The verdict knows no box: it tells rows apart where there is no ground truth. Of a row in the answer only "
            "pairs count whose attention was taken from the same token; not of means, whose tokens differ.",
        ),
    ),
    Layout(
        "preprocess",
        "How an image reaches the model, in percent",
        rows=(of.MODEL, EVALUATED, setting("model.preprocess", "preprocessing")),
        quantities=(*of.ALL_METRICS, of.HEADS),
        varies=("model.preprocess",),
    ),
    Layout(
        "sample_count",
        "How many discovery samples are needed",
        rows=(of.MODEL, DISCOVERY, of.N_SAMPLES),
        quantities=(of.BETWEEN_TRIALS, of.WITH_ALL, of.SAME_SET),
        parts=sizes,
        notes=(
            "A larger number holds the smaller ones of its trial. Trials are drawn independently, but from one split: "
            "where a trial takes much of it, trials agree because they share samples.",
        ),
    ),
    Layout(
        "discovery_draw",
        "Discovery from random expressions, or from whole images",
        rows=(of.MODEL, DISCOVERY, setting("discovery.n_samples", "samples"), setting("discovery.draw", "draw")),
        quantities=(of.HEADS, of.FREQUENCIES, of.WIDTH, of.TRIALS_SHARE, of.DRAWN, of.IMAGES, of.REC),
        varies=("discovery.",),
        notes=(
            "Samples are of each trial. The pass costs some 600 tokens per image and 20 per expression where the "
            "model reads an image once for all its expressions; stage=check tells either draw's for a data set.",
        ),
    ),
    Layout(
        "slices",
        "Where the answers are right, by slices: REC in percent",
        rows=(of.MODEL, EVALUATED, of.part("by", "slices", "all"), of.part("slice", default="all")),
        quantities=(*of.REC_OF_OWN, of.N_EXPRESSIONS),
        paper=Paper({quantity.key: ((), quantity.key) for quantity in of.REC_OF_OWN}),
        varies=("heads.set", "discovery.", "predictions"),
        parts=of.slices,
        to_do=lambda row: not row[0].startswith("human"),
        notes=("Published are the figures of Ref-Adv-s; those of its people are of a part of it.",),
    ),
    Layout(
        "agd20k",
        "AGD20K: maps of affordances against true heat maps",
        rows=(of.MODEL, setting("dataset.template", "asked")),
        columns=(of.SPLIT,),
        quantities=of.HEAT,
        paper=Paper(
            {
                f"{split}_{quantity.key.removeprefix('agd_')}": ((split,), quantity.key)
                for split in ("seen", "unseen")
                for quantity in of.HEAT
            },
            {"asked": "trained"},
        ),
        varies=("heads.set", "dataset.template", "dataset.affordances", "discovery."),
        to_do=lambda _: False,
        notes=("KLD: lower is better. Published are methods that were trained on AGD20K's images of people.",),
    ),
    Layout(
        "screenspot",
        "ScreenSpot: clicks that hit their element, in percent",
        rows=(of.MODEL, EVALUATED, of.part("slice", "kind", "all")),
        quantities=(*of.CLICKS, of.N_EXPRESSIONS),
        paper=Paper({"click_acc": ((), "click_acc")}),
        varies=("heads.set", "discovery.", "predictions"),
        parts=of.kinds,
        to_do=lambda _: False,
        notes=("TAG's figure, of the one other method without training, was not verified.",),
    ),
    Layout(
        "table9_png",
        "Table 9: Panoptic Narrative Grounding, in percent",
        rows=(KIND, METHOD, setting("dataset.reading", "evaluation"), Axis("asked", _asked)),
        columns=(of.part("slice", "phrases", "all"),),
        quantities=(of.PNG_RECALL, of.PNG_ACC),
        paper=Paper({f"png_{name}": ((name,), of.PNG_RECALL.key) for name in _OF_PNG}),
        varies=("dataset.", "prompt."),
        parts=of.kinds,
        to_do=lambda row: row[0] == OUR_METHOD,
        notes=(
            "The paper names neither its metric nor whose evaluation it follows: its row stands with F-LMM's "
            "evaluation, beside which it is printed, and with the nouns of the caption, whose maps it takes.",
        ),
    ),
    Layout(
        "flickr30k_entities",
        "Flickr30k Entities: phrases of a caption, R@1 at IoU 0.5 in percent",
        rows=(of.MODEL, EVALUATED, setting("dataset.boxes", "right box"), Axis("asked", _asked)),
        columns=(of.part("slice", "phrases", "all"),),
        quantities=(of.PHRASE_R1, of.N_EXPRESSIONS),
        paper=Paper({"all": (("all",), of.PHRASE_R1.key)}),
        varies=("dataset.", "prompt."),
        parts=of.kinds,
        to_do=lambda _: False,
        notes=("The paper has no such figures; those of MDETR, which was trained for it, are its repository's.",),
    ),
    Layout(
        "absence",
        "Is it there? Scores of absence, in percent",
        rows=(
            of.MODEL,
            EVALUATED,
            setting("dataset.absent", "absent"),
            setting("absence.score", "score"),
            setting("absence.rule", "rule"),
        ),
        quantities=(*of.OF_ABSENCE, of.REC),
        varies=("absence.", "dataset.absent"),
        notes=(
            "N-acc and T-acc are of the threshold that was worked out on the discovery split; a chance score has the "
            "AUROC 50. REC counts an answer withheld as a miss.",
        ),
    ),
    Layout(
        "grefcoco",
        "Several objects, one or none: GREC and GRES in percent",
        rows=(of.MODEL, EVALUATED),
        quantities=(*of.OF_SEVERAL, of.REC, of.N_EXPRESSIONS),
        paper=Paper({key: ((), key) for key in ("grec_pr_iou", "n_acc")}),
        varies=("heads.set", "discovery.", "grounding.", "predictions"),
        notes=("The published figures are mmdetection's, whose code compares boxes by the plain IoU.",),
    ),
    Layout(
        "zoom",
        "A second look at a part of the image, in percent",
        rows=(
            of.MODEL,
            EVALUATED,
            setting("zoom.name", "zoom"),
            setting("zoom.combine", "rule"),
            of.part("part", "share of the image"),
        ),
        quantities=(*of.LOOKS, of.ASKED),
        varies=("zoom.", "dataset.split"),
        parts=of.looks,
        notes=("Changes are paired: after all looks, less the first look, with their interval over images.",),
    ),
    Layout(
        "transfer",
        "Heads found on one data set, used on another: REC Acc@0.5 in percent",
        rows=(of.MODEL, of.FOUND_ON),
        columns=(of.DATA, of.SPLIT),
        quantities=(of.REC,),
        varies=("heads.set", "discovery."),
    ),
)
LAYOUTS = {layout.study: layout for layout in _LAYOUTS}
"""study -> its layout."""
