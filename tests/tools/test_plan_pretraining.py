"""The plan of a run agrees with what is computed by hand."""

import pytest

from run_scripts.common.errors import UserError
from tools import plan_pretraining
from tools.plan_pretraining import PlanArguments, plan


def test_time_price_and_reading_follow_from_the_rates():
    args = PlanArguments(
        clips=720_000, epochs=10, pairs_per_second=1000, pairs_per_core=250, megabytes_per_clip=2, price_per_gpu_hour=3
    )
    rows = plan(args, num_gpus=4)
    assert rows["steps"] == f"{7_200_000 / 1024:,.0f}"
    assert rows["time"] == "30 min"
    assert rows["GPU hours"] == "2.0"
    assert rows["price"] == "6.00"
    assert rows["bytes read"] == "8 GB/s"
    assert rows["CPU cores per GPU that read"] == "4.0"


def test_one_gpu_sends_nothing_and_there_is_a_column_for_each_number_of_gpus(capsys: pytest.CaptureFixture):
    plan_pretraining.main(["--num_gpus", "1", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| quantity | 1 GPU | 2 GPUs |"
    rows = {cells[1].strip(): cells[2:4] for cells in (line.split("|") for line in lines[2:])}
    assert "price" not in rows
    one, two = (cell.strip() for cell in rows["sent per process and step: gradients"])
    # Half of the gradients' bytes, twice: 4 bytes of each of 4.93 million parameters.
    assert one == "0 MB" and two == "19.7 MB"


@pytest.mark.parametrize("wrong", [["--epochs", "nan"], ["--num_gpus", "0"], ["--price_per_gpu_hour", "-1"]])
def test_a_number_that_makes_no_sense_is_named(wrong: list[str]):
    with pytest.raises(UserError, match=wrong[0]):
        plan_pretraining.main(wrong)
