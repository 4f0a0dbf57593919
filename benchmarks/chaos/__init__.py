"""Real runs of `synth generate` that are broken by random schedules: see `__main__`."""
