"""Laws of plug-ins as tests, which authors of plug-ins run on their own classes. They need pytest.

Subclass a class of laws in a file that pytest collects, and say there how the plug-in is made:

    from trainer.testing.objectives import ObjectiveLaws

    class TestMine(ObjectiveLaws):
        name = "my_package.my_module:Mine"
        settings = {"out": 8}
"""
