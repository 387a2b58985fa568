"""The form of an upload to OpenAI's API, as the gateway takes it."""

import uuid

PATH = "/v1/audio/transcriptions"


def form(file: bytes) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that send a file."""
    mark = uuid.uuid4().hex
    parts = [
        b'Content-Disposition: form-data; name="model"\r\n\r\nasrloop',
        b'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\n\r\n' + file,
    ]
    body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={mark}"}
