import pytest
from pydantic import ValidationError

from hyperoracle_protocol import PROTOCOL_VERSION, Scale
from hyperoracle_protocol.errors import HTTP_STATUS, ErrorCode
from hyperoracle_protocol.jobs import Proposal, Propose, Report, StartJob
from hyperoracle_protocol.strategies import DEFAULT_STRATEGY
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_protocol.version import is_compatible


def test_a_definition_comes_back_from_json_with_all_defaults_said():
    definition = StudyDefinition(space={"learning_rate": Scale([0.5, 1, 2])})
    again = StudyDefinition.model_validate_json(definition.model_dump_json())
    assert again == definition
    assert again.strategy == DEFAULT_STRATEGY


def test_a_mistyped_setting_of_a_definition_is_refused():
    definition = {
        "space": {"learning_rate": {"type": "relative", "values": [1, 2]}},
        "strategy": {"name": "epgt", "memory": {"neigbours_read": 3}},
    }
    with pytest.raises(ValidationError, match="neigbours_read"):
        StudyDefinition.model_validate(definition)


def test_readers_ignore_fields_that_they_do_not_know():
    body = '{"sequence": 1, "update_step": 0, "env_step": 0, "from_the_future": [1]}'
    assert Propose.model_validate_json(body).sequence == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"sequence": 0, "update_step": 0, "env_step": 0}',
        '{"sequence": 1, "update_step": -1, "env_step": 0}',
        '{"sequence": 1, "update_step": 0, "env_step": 9223372036854775808}',
        '{"sequence": 1, "update_step": 0, "env_step": 0, "signals": {"kl": NaN}}',
        '{"sequence": 1, "update_step": 0, "env_step": 0, "signals": {"kl": 1e999}}',
        '{"sequence": 1.5, "update_step": 0, "env_step": 0}',
        '{"update_step": 0, "env_step": 0}',
        "[]",
        "",
    ],
)
def test_a_senseless_proposal_request_is_refused(body):
    with pytest.raises(ValidationError):
        Propose.model_validate_json(body)


def test_returns_must_be_finite():
    with pytest.raises(ValidationError):
        Report(sequence=1, credits_through=0, env_step=0, episode_returns=[float("inf")])
    with pytest.raises(ValidationError):
        StartJob(total_env_steps=0)


def test_values_keep_their_types_through_json():
    proposal = Proposal(
        proposal_id="p",
        sequence=1,
        hyperparameters={"factor": 1.0, "epochs": 3, "optimiser": "adam", "nesterov": True},
        bins=[0, 1, 0, 1],
        explored=False,
        epsilon=0.0,
    )
    again = Proposal.model_validate_json(proposal.model_dump_json())
    kinds = [type(value) for value in again.hyperparameters.values()]
    assert kinds == [float, int, str, bool]


def test_every_error_code_has_a_status_that_is_an_error():
    assert set(HTTP_STATUS) == set(ErrorCode)
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


@pytest.mark.parametrize(
    ("offered", "compatible"),
    [(None, True), (PROTOCOL_VERSION, True), ("1.99", True), ("1", True), ("2.0", False),
     ("", False), ("x", False), ("1.x", False)],
)  # fmt: skip
def test_versions_of_the_same_major_are_compatible(offered, compatible):
    assert is_compatible(offered) is compatible
