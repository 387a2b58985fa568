#!/bin/sh
# curl.sh HOST:HTTP_PORT FILE - sends an audio file as it is; prints Triton's answer: a JSON header, then the text among the tensors.
# The content type matters: with curl's default this Triton release parses the body as a form.
exec curl --silent --show-error --max-time 60 \
  --header 'Content-Type: application/octet-stream' \
  --header 'Inference-Header-Content-Length: 0' \
  --data-binary "@$2" --output - "http://$1/v2/models/asr_file/infer"
