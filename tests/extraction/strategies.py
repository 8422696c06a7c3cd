"""Random small architectures and plans for property tests."""

import numpy as np
from hypothesis import strategies as st

from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from etd_tf.modeling.config import BertConfig
from tests.helpers import tiny_config


@st.composite
def teachers(draw, max_layers=3):
    """A teacher configuration of small sizes."""
    heads, size = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    return tiny_config(
        num_layers=draw(st.integers(1, max_layers)),
        hidden_size=heads * size,
        num_heads=heads,
        intermediate_size=draw(st.integers(1, 11)),
        hidden_act=draw(st.sampled_from(["gelu", "gelu_new", "relu"])),
    )


@st.composite
def students(draw, teacher: BertConfig, head_mode: str):
    """A configuration that fits into a teacher under a head mode."""
    heads, size = teacher.num_heads, teacher.head_size
    if head_mode == "heads":
        heads = draw(st.integers(1, heads))
    else:
        size = draw(st.integers(1, size))
    return teacher.replace(
        num_layers=draw(st.integers(1, teacher.num_layers)),
        hidden_size=heads * size,
        num_heads=heads,
        intermediate_size=draw(st.integers(1, teacher.intermediate_size)),
    )


@st.composite
def random_plans(draw, teacher: BertConfig | None = None, rescale: bool | None = None):
    """An ETD-Rand plan of either head mode."""
    teacher = draw(teachers()) if teacher is None else teacher
    head_mode = draw(st.sampled_from(["neurons", "heads"]))
    return plan_extraction(
        teacher,
        draw(students(teacher, head_mode)),
        seed=draw(st.integers(0, 2**32)),
        head_mode=head_mode,
        layer_selection=draw(st.sampled_from(["uniform", "top", "bottom"])),
        rescale_attention=draw(st.booleans()) if rescale is None else rescale,
    )


def identity_plan(config: BertConfig) -> ExtractionPlan:
    """The plan that keeps everything."""
    columns = tuple(np.arange(config.hidden_size) for _ in range(config.num_layers))
    return ExtractionPlan(
        teacher_config=config,
        student_config=config,
        layers=tuple(range(1, config.num_layers + 1)),
        hidden=np.arange(config.hidden_size),
        query_key=columns,
        value=columns,
        ffn=tuple(np.arange(config.intermediate_size) for _ in range(config.num_layers)),
    )
