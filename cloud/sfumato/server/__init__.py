"""The cloud service, its client and the gateway.

`app` holds the routes, `predict` answers uploads (`uploads` decodes, `photo_check` refuses photos, `batching` groups, `model`
runs). `auth` holds tokens and limits, `http` runs uvicorn, `problems` are refusals, `telemetry` is metrics and logs. `page`
serves the browser page in `web/`. `client` and `gateway` perturb and send. `scale_out` runs it on Ray Serve.
"""
