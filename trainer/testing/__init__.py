"""Laws of plug-ins, for their authors to run on classes of their own. They need pytest.

Subclass a class of laws in a file that pytest collects, and say how yours is made:

    from trainer.testing.objectives import ObjectiveLaws

    class TestMine(ObjectiveLaws):
        name = "my_package.my_module:Mine"
        settings = {"out": 8}
"""
