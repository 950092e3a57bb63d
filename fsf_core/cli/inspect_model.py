"""`fsf inspect-model`: what a model's own files contain, what is missing, and a document to fill in.

fsf inspect-model model.onnx --yaml model.yaml
"""

from fsf_core.config import InspectModelConfig


def run(model: str, config: InspectModelConfig) -> int:
    """Print, and write the document if a file is named; returns the exit code.

    Raises:
        RunError: there is no model, or it cannot be read.
    """
    from fsf_core import storage
    from fsf_core.cli.output import print_json, show
    from fsf_core.export.inspection import inspect_model, proposal

    found = inspect_model(model)
    for line in found.lines():
        show(line)
    document = proposal(found, config.yaml or "model.yaml")
    if document:
        show(f"\n{document}", lines=True)
    if document and config.yaml is not None:
        storage.write_bytes(storage.absolute(config.yaml), document.encode())
        show(f"wrote {config.yaml}")
    print_json(found.to_json())
    return 0
