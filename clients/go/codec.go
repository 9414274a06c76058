package sidecar

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that all but the hot paths use
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// encoded is a message that is protobuf already. Batches are written and read by hand: no object for each message.
type encoded []byte

// frame is an encoded request of a bulk call, in memory that is used again once gRPC has written it: clearing fresh memory
// and collecting it costs more than the message itself.
type frame struct{ data *[]byte }

// framePool keeps the memory of frames.
type framePool struct{ pool sync.Pool }

var frames framePool

// Get gives a piece of memory without anything in it; how large it is depends on the frames before.
func (p *framePool) Get(int) *[]byte {
	if data, ok := p.pool.Get().(*[]byte); ok {
		return data
	}
	return new([]byte)
}

// Put is called by gRPC. What a single large message needed is not kept.
func (p *framePool) Put(data *[]byte) {
	if cap(*data) <= 2*frameBytes {
		*data = (*data)[:0]
		p.pool.Put(data)
	}
}

// codec lets encoded messages through, and leaves all others to gRPC's own.
type codec struct{ encoding.CodecV2 }

var ourCodec = codec{encoding.GetCodecV2("proto")}

// Marshal is called by gRPC. The bytes are handed on as they are: they must not be written to any more.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	switch message := message.(type) {
	case encoded:
		return mem.BufferSlice{mem.SliceBuffer(message)}, nil
	case frame:
		return mem.BufferSlice{mem.NewBuffer(message.data, &frames)}, nil
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal is called by gRPC. An encoded message gets memory of its own, one piece for the whole batch.
func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	if raw, ok := message.(*encoded); ok {
		*raw = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, message)
}

func appendText(buffer []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return buffer
	}
	return protowire.AppendString(protowire.AppendTag(buffer, field, protowire.BytesType), text)
}

func appendBytes(buffer []byte, field protowire.Number, data []byte) []byte {
	if len(data) == 0 {
		return buffer
	}
	return protowire.AppendBytes(protowire.AppendTag(buffer, field, protowire.BytesType), data)
}

func appendNumber(buffer []byte, field protowire.Number, number uint64) []byte {
	if number == 0 {
		return buffer
	}
	return protowire.AppendVarint(protowire.AppendTag(buffer, field, protowire.VarintType), number)
}

// appendOutgoing adds an OutgoingMessage as the given field.
func appendOutgoing(buffer []byte, field protowire.Number, data []byte, requestID string) []byte {
	size := 0
	if len(data) > 0 {
		size += 1 + protowire.SizeBytes(len(data))
	}
	if requestID != "" {
		size += 1 + protowire.SizeBytes(len(requestID))
	}
	buffer = protowire.AppendTag(buffer, field, protowire.BytesType)
	buffer = protowire.AppendVarint(buffer, uint64(size))
	return appendText(appendBytes(buffer, 1, data), 2, requestID)
}

// fields calls each for every field of an encoded message, with the bytes of those that have a length and the number of
// varints; what else there may be is left out.
func fields(message []byte, each func(field protowire.Number, data []byte, number uint64) error) error {
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return malformed(protowire.ParseError(size))
		}
		message = message[size:]
		var data []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			data, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(field, kind, message)
			field = 0
		}
		if size < 0 {
			return malformed(protowire.ParseError(size))
		}
		message = message[size:]
		if field != 0 {
			if err := each(field, data, number); err != nil {
				return err
			}
		}
	}
	return nil
}

func malformed(err error) error {
	return &Error{Kind: ErrInternalError, Message: fmt.Sprintf("the sidecar sent a malformed message: %v", err)}
}
