"""Where models come from.

``store`` knows names and fetches, ``loading`` reads folders, GGUF files and hub ids, ``adapter``
and ``int8_weights`` two kinds of small folders, ``onnx_weights`` turns another format into one,
``kinds`` tells language models from encoders; ``embedder`` is the model of the first stage.
"""
