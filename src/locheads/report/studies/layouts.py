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

_SPLITS = {"refcoco": ("val", "testA", "testB"), "refcoco+": ("val", "testA", "testB"), "refcocog": ("val", "test")}


def _of_all_splits(study: str, title: str, quantity: Quantity, notes: tuple[str, ...] = ()) -> Layout:
    """Tables 1 and 2."""
    figures = {f"{data}_{split}": ((data, split), quantity.key) for data, splits in _SPLITS.items() for split in splits}
    return Layout(
        study,
        title,
        rows=(KIND, METHOD),
        columns=(of.DATA, of.SPLIT),
        quantities=(quantity,),
        paper=Paper(figures),
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
