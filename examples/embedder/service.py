#!/usr/bin/env python3
"""An embedding service for Annex over a sentence-transformers model.

    pip install sentence-transformers
    ./service.py --model all-MiniLM-L6-v2 --port 7777

It speaks what upsert_embedder and query_embedder of a vector index ask for:

    POST /api/v1/embedder/NAME/produce?format=json   {"data":[{"title":"red fox","tags":["a","b"]}, ...]}
    POST /api/v1/embedder/NAME/produce?format=text   {"data":["a text to search for", ...]}
    ->                                               {"products":[[{"chunk":"","embedding":[...]}], ...]}
"""
import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def text_of(source):
    """The text of an input: the words of its values, in the order of the index's `fields`."""
    if isinstance(source, dict):
        source = list(source.values())
    if isinstance(source, list):
        return " ".join(text_of(part) for part in source)
    return "" if source is None else str(source)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [text_of(source) for source in body["data"]]
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"success": False, "response_code": 400, "description": repr(error)})
            return
        with self.server.lock:  # one batch at a time: the model uses every core, or the GPU, by itself
            vectors = self.server.encode(texts)
        products = [[{"chunk": "", "embedding": [float(x) for x in vector]}] for vector in vectors]
        self.answer(200, {"products": products})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serve(encode, host, port):
    server = ThreadingHTTPServer((host, port), Handler)
    server.encode, server.lock = encode, threading.Lock()
    return server


def main():
    parser = argparse.ArgumentParser(description="Embedding service over sentence-transformers.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7777)
    arguments = parser.parse_args()

    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(arguments.model)
    print(f"{arguments.model}: {model.get_sentence_embedding_dimension()} components", flush=True)
    serve(lambda texts: model.encode(texts, normalize_embeddings=True), arguments.host, arguments.port).serve_forever()


if __name__ == "__main__":
    main()
