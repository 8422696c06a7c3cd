"""The few pieces of protocol buffers' wire format that are written by hand.

Source: https://protobuf.dev/programming-guides/encoding/
"""

_LENGTH_DELIMITED = 2  # wire type of strings, packed numbers and messages


def encode_field(number: int, content: bytes) -> bytes:
    """Encodes a string, packed numbers or a message as a field.

    Returns:
        Key, length and content.
    """
    return encode_varint(number << 3 | _LENGTH_DELIMITED) + encode_varint(len(content)) + content


def encode_varint(value: int) -> bytes:
    """Encodes a number that is not negative, seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
