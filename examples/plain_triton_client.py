"""plain_triton_client.py HOST:GRPC_PORT FILE: samples to asr_ensemble with NVIDIA's own client."""

import sys

import soundfile
import tritonclient.grpc as triton

address, path = sys.argv[1:]
samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
wav = samples.mean(axis=1)[None]  # mono, one row: FP32 [1, N]

with triton.InferenceServerClient(address) as client:
    tensor = triton.InferInput("WAV", wav.shape, "FP32")
    tensor.set_data_from_numpy(wav)
    answer = client.infer("asr_ensemble", [tensor], parameters={"sample_rate": rate}, client_timeout=60)

print(answer.as_numpy("TRANSCRIPTS")[0, 0].decode())
