"""What is read from the text of diffusers is what its classes say when they are imported."""

import inspect

import diffusers
import pytest

from pipeline.renderers.text_to_image import source_text


def test_a_class_that_no_text_has_is_not_offered() -> None:
    assert source_text.is_offered("StableDiffusionPipeline")
    assert source_text.is_offered("DDIMScheduler")
    assert not source_text.is_offered("StableDiffusionPipelin")
    assert not source_text.is_offered("LMSDiscreteScheduler")  # it needs scipy as well
    assert source_text.call_of("NoSuchPipeline") is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # some classes warn when they are imported
def test_every_call_that_is_told_by_its_text_is_that_of_its_class() -> None:
    texts = list(source_text.pipeline_texts())
    names = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    offered = {name: getattr(diffusers, name) for name in names if source_text.is_offered(name)}
    # One for videos needs OpenCV, and diffusers has a stand-in for it here.
    classes = {name: one for name, one in offered.items() if not hasattr(one, "_backends")}
    assert offered.keys() - classes.keys() <= {"ConsisIDPipeline"}
    num_read = 0
    for name, pipeline in classes.items():
        arguments = source_text.call_of(name, texts)
        if arguments is None:
            continue
        num_read += 1
        real = inspect.signature(pipeline.__call__).parameters
        assert {key: one.default for key, one in arguments.items()} == {
            key: one.default for key, one in real.items()
        }, name
    assert num_read > 0.8 * len(classes)
