"""Notes on the data and the tasks stay short with many tasks."""

from dao.learner.data.report import notes
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.told import notes_of_tasks


def report_of(tasks: list[str]) -> dict:
    rows = {"train": 9, "validation": 10, "test": 11}
    return {
        "sources": [{"source": "my.csv", "rows": 30}], "rows": rows,
        "kinds": {task: {"column": task, "kind": "binary", "reason": "given"} for task in tasks},
        "labelled": dict.fromkeys(tasks, rows),
        "targets": {task: {"down": 4, "up": 5} for task in tasks},
        "dropped": {}, "split": [],
    }  # fmt: skip


def test_two_tasks_have_lines_of_their_own():
    lines = notes(report_of(["topic", "stars"]))
    assert "labelled for stars: 9 train, 10 validation, 11 test" in lines
    assert "stars in train: down 4, up 5" in lines


def test_more_tasks_are_rows_of_a_table():
    lines = notes(report_of(["a_long_name", "b", "c"]))
    assert lines[2:6] == [
        "labels of    train  validation  test  in train",
        "a_long_name  9      10          11    down 4, up 5",
        "b            9      10          11    down 4, up 5",
        "c            9      10          11    down 4, up 5",
    ]
    assert len(notes(report_of([f"t{i}" for i in range(40)]))) == 3 + 40


def test_classes_that_differ_only_in_case_are_said():
    report = report_of(["mark", "other"])
    report["targets"]["mark"] = {"NO": 3, "Yes": 4, "no": 5, "yes": 6, "maybe": 1}
    found = [line for line in notes(report) if "capital" in line]
    assert found == [
        "mark: NO and no, Yes and yes differ only in capital letters and are learned apart; where "
        "they mean the same, write them alike in the data"
    ]


def test_what_holds_of_many_tasks_is_said_once():
    tasks = {f"t{i}": Binary(f"t{i}", "x", ["no", "yes"]) for i in range(40)}
    tasks["stars"] = Ordinal("stars", "stars", ["1", "2", "3"])
    first, second = notes_of_tasks(tasks)
    assert first == "t0, t1, t2, t3, t4, t5 and 34 more: yes is the positive class, no the other"
    assert second == "stars: levels 1 < 2 < 3"


def test_a_task_with_the_name_of_a_word_or_of_a_class_keeps_its_note():
    tasks = {
        "class": Binary("class", "class", ["no", "yes"]),
        "yes": Binary("yes", "yes", ["no", "yes"]),
        "other": Binary("other", "other", ["no", "yes"]),
    }
    assert notes_of_tasks(tasks) == [line for task in tasks.values() for line in task.notes()]
