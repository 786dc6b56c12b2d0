"""Baseline of `risk` on Flink: PyFlink as it is usually written, one record an event.

A program for ``flink run -py``: fills as JSON from Kafka, keyed by account, a `KeyedProcessFunction` with the account's
position in a value state, exposure out through Flink's own KafkaSink. It does far less than `risk`: no limits, no
memory of ids, no collateral, no signatures, no audit, no headers.
"""

import argparse
from pathlib import Path

import orjson
from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import KeyedProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.connectors import kafka
from pyflink.datastream.state import ValueStateDescriptor


class Exposure(KeyedProcessFunction):
    """The gross notional of one account."""

    def open(self, runtime_context):
        """Find the state."""
        self._book = runtime_context.get_state(ValueStateDescriptor("book", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, ctx):
        """Apply one fill; tell what the account is exposed to."""
        fill = orjson.loads(value)
        book = self._book.value() or {}
        book[fill["instrument"]] = (book.get(fill["instrument"], (0, 0.0))[0] + fill["quantity"], fill["price"])
        self._book.update(book)
        gross = sum(abs(quantity) * price for quantity, price in book.values())
        yield orjson.dumps({"account": fill["account"], "gross_notional": gross}).decode()


def main():
    """Submit the job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers")
    parser.add_argument("events")
    parser.add_argument("exposures")
    parser.add_argument("--jar", action="append", default=[])
    given = parser.parse_args()
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.set_parallelism(1)
    environment.add_jars(*(f"file://{Path(jar).absolute()}" for jar in given.jar))
    source = kafka.KafkaSource.builder().set_bootstrap_servers(given.servers).set_group_id("event-job")
    source = source.set_topics(given.events).set_value_only_deserializer(ByteArraySchema())
    source = source.set_starting_offsets(kafka.KafkaOffsetsInitializer.earliest()).build()
    schema = kafka.KafkaRecordSerializationSchema.builder().set_topic(given.exposures)
    schema = schema.set_value_serialization_schema(SimpleStringSchema()).build()
    sink = kafka.KafkaSink.builder().set_bootstrap_servers(given.servers).set_record_serializer(schema)
    sink = sink.set_delivery_guarantee(kafka.DeliveryGuarantee.AT_LEAST_ONCE).build()
    keyed = environment.from_source(source, WatermarkStrategy.no_watermarks(), "events").key_by(
        lambda value: orjson.loads(value)["account"], key_type=Types.STRING()
    )
    keyed.process(Exposure(), output_type=Types.STRING()).sink_to(sink)
    environment.execute_async("one record an event")


if __name__ == "__main__":
    main()
