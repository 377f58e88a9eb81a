"""sentence-transformers' CrossEncoder as a worker of `benchmarks.language_serving`.

    python benchmarks/cross_encoder_peer.py WAY MODEL REQUESTS THREADS

It imports nothing of ours, for its ONNX back-end wants a Python of its own. It says "ready", then
answers every line "shape number" by one line of JSON: seconds, those of all processors, and logits.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

MOST_TOKENS = 128
ONNX_FILES = {
    "onnx": "onnx/model.onnx",
    "onnx O3": "onnx/model_O3.onnx",
    "onnx int8": "onnx/model_qint8_avx512_vnni.onnx",
}


def open_model(way: str, folder: Path, threads: int) -> Any:
    """The cross-encoder with the back-end that `way` names, exporting it where it is not yet."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.backend import (
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
    )

    torch.set_num_threads(threads)
    options: dict[str, Any] = {"max_length": MOST_TOKENS, "device": "cpu", "local_files_only": True}
    if way == "torch":
        return CrossEncoder(str(folder), **options)
    import onnxruntime

    name = ONNX_FILES[way]
    if not (folder / ONNX_FILES["onnx"]).exists():
        CrossEncoder(
            str(folder), backend="onnx", model_kwargs={"export": True}, **options
        ).save_pretrained(str(folder))
    if not (folder / name).exists():
        plain = CrossEncoder(
            str(folder), backend="onnx", model_kwargs={"file_name": ONNX_FILES["onnx"]}, **options
        )
        if way == "onnx O3":
            export_optimized_onnx_model(plain, "O3", str(folder))
        else:
            export_dynamic_quantized_onnx_model(plain, "avx512_vnni", str(folder))
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    settings = {
        "file_name": name,
        "provider": "CPUExecutionProvider",
        "session_options": session,
    }
    return CrossEncoder(str(folder), backend="onnx", model_kwargs=settings, **options)


def main() -> None:
    """Answer requests until the input ends."""
    import torch

    way, folder, requests, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    asked = json.loads(requests.read_text())
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    model = open_model(way, folder, int(threads))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        shape, number = line.split()
        pairs = [tuple(pair) for pair in asked[shape][int(number)]]
        started, worked = time.perf_counter(), time.process_time()
        logits = model.predict(
            pairs,
            batch_size=32,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        answer = {
            "seconds": time.perf_counter() - started,
            "processor": time.process_time() - worked,
            "logits": logits.reshape(len(pairs), -1).tolist(),
        }
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
