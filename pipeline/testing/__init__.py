"""Conformance tests for authors of plug-ins: a subclass that makes your plug-in tests all laws.

    from pipeline.testing.renderers import RendererLaws

    class TestGradient(RendererLaws):
        def make(self):
            return Gradient(GradientConfig(name="gradient:Gradient"))

pytest collects the inherited tests. The laws themselves are listed in `pipeline.renderers`,
`pipeline.audits`, `pipeline.execution` and `prompts.sources`.
"""
