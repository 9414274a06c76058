"""Between the core's values and protobuf messages: nothing else in the API touches generated classes."""
