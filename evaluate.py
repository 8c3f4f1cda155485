"""Measure a finished run on its test split or on new data, or let it predict.

python evaluate.py results/headlines/cls+reg-dao-dendrites/seed=0
python evaluate.py RUN --data new.csv
python evaluate.py RUN --text "Net loss narrowed in the third quarter"
python evaluate.py RUN --text "A man sleeps" --text-pair "He is awake"
python evaluate.py RUN --benchmark
python evaluate.py RUN --format html
python evaluate.py RUN --export model.onnx
python evaluate.py compare RUN_A RUN_B
"""

from dao.command import alone, without

without("torchvision")

import typer

from dao.learner.commands import options as o
from dao.learner.commands.evaluate import program
from tasks import register

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: o.RunOrCompare,
    overrides: o.ColumnsOrRuns = None,
    data: o.NewData = None,
    style: o.ReportStyle = None,
    text: o.Text = None,
    text_pair: o.TextPair = None,
    source: o.Source = None,
    output: o.AnyOutput = None,
    engine: o.EngineOption = None,
    benchmark: o.Benchmark = False,
    merge_experts: o.MergeExperts = None,
    expert_weights: o.ExpertWeights = None,
    export: o.Export = None,
    quantize: o.QuantizeRun = None,
    threshold_sweep: o.ThresholdSweep = False,
    compare_to: o.CompareTo = None,
    device: o.RunDevice = None,
    coverage: o.Coverage = None,
) -> None:
    """Report on a finished run, predict with it, compare ways to run it, or export it.

    compare RUN_A RUN_B tests two runs, or two folders of runs, against each other.
    """
    given = locals()
    register()
    program(given)


if __name__ == "__main__":
    alone()
    app()
