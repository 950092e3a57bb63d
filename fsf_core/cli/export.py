"""`fsf export`: make the bundle and print its identity and the verdict of its proof."""

import sys

from fsf_core.config import ExportConfig, parse_colours


def run(config: ExportConfig) -> int:
    """Export and report; returns the exit code."""
    from fsf_core import storage
    from fsf_core.cli.app import print_json
    from fsf_core.export.job import export
    from fsf_core.export.request import Request
    from fsf_core.masks import voc_colours
    from fsf_core.model.bundle import read_parity

    request = Request(
        net=config.net,
        checkpoint=storage.absolute(config.checkpoint) if config.checkpoint else None,
        onnx=storage.absolute(config.onnx) if config.onnx else None,
        classes=config.classes,
        palette=parse_colours(config.palette) or voc_colours(len(config.classes)),
        profile=config.profile,
        pyramid=config.pyramid,
        cnn_branch=config.cnn_branch,
        exporter=config.exporter,
        opset=config.opset,
        input_name=config.input_name,
        output_name=config.output_name,
        precisions=config.precisions,  # type: ignore[arg-type] # Request refuses other words
        samples=storage.absolute(config.samples) if config.samples else None,
    )
    done = export(request, out=storage.absolute(config.out), show_graph=print if config.print_graph else None)
    report = read_parity(done.bundle)
    worst = min(picture["agreeing_share"] for picture in report["pictures"])
    for warning in report["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{config.out}: {'this bundle was there already' if done.reused else 'written'}")
    print(f"proved on {len(report['pictures'])} pictures and batches: at least {worst:.4%} of the pixels agree")
    for form in report.get("precisions", []):
        share, mean_iou = form["worst_differing_share"], form["mean_iou"]
        print(f"{form['variant']}: mean IoU with the original {mean_iou:.4f}, worst picture {share:.2%} of its pixels")
    print_json(
        {
            "bundle": config.out,
            "sha256": done.bundle.sha256,
            "reused": done.reused,
            "opset": done.bundle.origin.opset,
            "parity": {"passed": report["passed"], "comparisons": len(report["pictures"]), "agreeing_share": worst},
            "precisions": {form["variant"]: form["mean_iou"] for form in report.get("precisions", [])},
        }
    )
    return 0
