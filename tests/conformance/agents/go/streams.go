package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// byteStream is a byte stream that is open.
type byteStream struct {
	stream *sidecar.Stream
	stop   context.CancelFunc
}

func newByteStream(opened *sidecar.Stream) *byteStream {
	ctx, cancel := context.WithCancel(context.Background())
	opened.ResetWith(ctx)
	return &byteStream{opened, cancel}
}

func (a *agent) openStream(ctx context.Context, asked *request) (any, error) {
	node, err := a.client(asked)
	if err != nil {
		return nil, err
	}
	opened, err := node.OpenStream(ctx, asked.PeerID, asked.Protocols...)
	if err != nil {
		return nil, err
	}
	a.keep(asked.Client, asked.As, newByteStream(opened))
	return fields{"peer_id": opened.PeerID(), "protocol": opened.Protocol()}, nil
}

func (b *byteStream) close() error { return b.stream.Close() }

func (b *byteStream) cancel() { b.stop() }

func (b *byteStream) abandon() { b.stop() }

func (b *byteStream) perform(asked *request) (any, error) {
	switch asked.Op {
	case "close_write":
		return fields{}, b.stream.CloseWrite()
	case "reset":
		b.stream.Reset()
		return fields{}, nil
	case "write":
		if asked.Run == nil {
			written, err := b.stream.Write(asked.Data.bytes())
			return fields{"bytes": written}, err
		}
		total := 0
		for data := range asked.payloads() {
			written, err := b.stream.Write(data)
			if total += written; err != nil {
				return nil, err
			}
		}
		return fields{"bytes": total}, nil
	}
	return b.read(asked)
}

func (b *byteStream) read(asked *request) (any, error) {
	whole, head, size := sha256.New(), []byte{}, 0
	buffer := make([]byte, 1<<18)
	ended := false
	for !ended && (asked.Size == nil || size < *asked.Size) {
		piece := buffer
		if asked.Size != nil {
			piece = buffer[:min(len(buffer), *asked.Size-size)]
		}
		taken, err := b.stream.Read(piece)
		whole.Write(piece[:taken])
		if size += taken; size <= inline {
			head = append(head, piece[:taken]...)
		}
		if err == io.EOF {
			ended = true
		} else if err != nil {
			return nil, err
		}
	}
	if size <= inline {
		return fields{"data": shown(head), "ended": ended}, nil
	}
	return fields{"data": fields{"size": size, "sha256": hex.EncodeToString(whole.Sum(nil))}, "ended": ended}, nil
}
