"""What Flink prints is brought down to the one line that says why, and what to do."""

from seawall.ops.flink.cluster import job_error, remedy, root_cause

REFUSED = """02:19:01,384 INFO  PythonDriver Traceback (most recent call last):
02:19:02,384 INFO  PythonDriver     raise UsageError(text) from error
02:19:02,384 INFO  PythonDriver seawall.schemas.errors.UsageError: the Kafka connector is not on the class path
02:19:03,451 ERROR PythonDriver Run python process failed
java.lang.RuntimeException: Python process exits with code: 1
org.apache.flink.client.program.ProgramAbortException: java.lang.RuntimeException: Python process exits with code: 1
Caused by: java.lang.RuntimeException: Python process exits with code: 1
\t... 14 more
"""
LOST = """java.lang.RuntimeException: Failed to open
Caused by: pemja.core.PythonException: <class 'ModuleNotFoundError'>: No module named 'find_libpython'
"""


def test_what_a_program_raised_goes_before_what_java_makes_of_it() -> None:
    assert job_error(REFUSED) == "seawall.schemas.errors.UsageError: the Kafka connector is not on the class path"


def test_of_a_java_error_alone_the_last_one_is_told() -> None:
    assert job_error("Caused by: a\nx\nCaused by: java.net.ConnectException: refused\n").endswith("refused")
    assert job_error("java.io.IOException: first\n\tat a.b\n") == "java.io.IOException: first"
    assert job_error("") == "it said nothing"


def test_another_python_on_the_path_is_known_by_the_library_that_it_does_not_find() -> None:
    assert root_cause(LOST).endswith("No module named 'find_libpython'")
    assert remedy(LOST).startswith("a TaskManager's `python` is not that of Flink's environment")
    assert remedy("java.net.ConnectException: refused") == ""
