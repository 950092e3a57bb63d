"""`fsf export`: export the bundle, print its identity and the result of its parity check."""

from functools import partial

from fsf_core.config import ExportConfig, is_adopted


def run(config: ExportConfig) -> int:
    """Export and report; returns the exit code."""
    from fsf_core.cli.output import print_json, show, show_error
    from fsf_core.export.job import export
    from fsf_core.model.bundle_files import read_parity
    from fsf_core.stages.precompile import compiling_ahead

    with compiling_ahead(finish=True):  # the job that scores will need them
        done = export(config, show_graph=partial(show, lines=True) if config.print_graph else None)
    report = read_parity(done.bundle)
    worst = min(image["agreeing_share"] for image in report["pictures"])
    for note in done.notes:
        show(note)
    for warning in report["warnings"]:
        show_error(f"warning: {warning}")
    show(f"{config.out}: {'this bundle was there already' if done.reused else 'written'}")
    compared = f"{len(report['pictures'])} comparisons"
    if is_adopted(config):  # whether this preprocessing is the one of its training, no comparison can show
        source = "the ONNX file as it is" if config.onnx else "the network"
        compared += f" with {source}, both fed {done.bundle.profile.describe()}"
    show(f"parity: {compared}, at least {worst:.4%} of the pixels agree")
    for precision in report.get("precisions", []):
        share, mean_iou = precision["worst_differing_share"], precision["mean_iou"]
        show(f"{precision['variant']}: mean IoU {mean_iou:.4f}, {share:.2%} of the worst image's pixels differ")
    print_json(
        {
            "bundle": config.out,
            "sha256": done.bundle.sha256,
            "reused": done.reused,
            "opset": done.bundle.origin.opset,
            "preprocessing": done.bundle.profile.describe(),
            "output": done.bundle.output.kind,
            "parity": {"passed": report["passed"], "comparisons": len(report["pictures"]), "agreeing_share": worst},
            "precisions": {precision["variant"]: precision["mean_iou"] for precision in report.get("precisions", [])},
        }
    )
    return 0
