"""Conformance tests for authors of plug-ins: subclass one, give a factory, and get the laws.

    from pipeline.testing.renderers import RendererLaws

    class TestGradient(RendererLaws):
        def make(self):
            return Gradient(GradientConfig(name="gradient:Gradient"))

pytest collects the inherited tests. The laws themselves are listed in `pipeline.renderers`,
`pipeline.audits`, `pipeline.execution` and `prompts.sources`.
"""
