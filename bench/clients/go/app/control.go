package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
)

// The control protocol of go-libp2p-daemon: messages of protobuf behind their length, over a Unix socket. Only what the
// benchmark asks for. Numbers of types and fields are those of the daemon's schema.
const (
	typeIdentify      = 0
	typeConnect       = 1
	typeStreamOpen    = 2
	typeStreamHandler = 3
	typeDisconnect    = 7
	typePubSub        = 8

	fieldType          = 1
	fieldConnect       = 2
	fieldStreamOpen    = 3
	fieldStreamHandler = 4
	fieldDisconnect    = 7
	fieldPubSub        = 8

	pubSubListPeers = 1
	pubSubPublish   = 2
	pubSubSubscribe = 3

	responseOK       = 0
	responseError    = 2
	responseIdentify = 4
	responsePubSub   = 7

	multiaddrUnix = 400
	longestFrame  = 4 << 20
)

var errMalformed = errors.New("the daemon sent what is no message")

// request is a whole one: its type, and the field with what belongs to it.
func request(kind uint64, field protowire.Number, body []byte) []byte {
	message := protowire.AppendTag(nil, fieldType, protowire.VarintType)
	message = protowire.AppendVarint(message, kind)
	if field != 0 {
		message = appendBytes(message, field, body)
	}
	return message
}

func appendBytes(message []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, field, protowire.BytesType), value)
}

// peerRequest names a peer, and has more in a repeated field.
func peerRequest(id []byte, field protowire.Number, more ...[]byte) []byte {
	body := appendBytes(nil, 1, id)
	for _, value := range more {
		body = appendBytes(body, field, value)
	}
	return body
}

func pubSubRequest(kind uint64, topic string, data []byte) []byte {
	body := protowire.AppendTag(make([]byte, 0, len(topic)+len(data)+24), 1, protowire.VarintType)
	body = protowire.AppendVarint(body, kind)
	body = appendBytes(body, 2, []byte(topic))
	if data != nil {
		body = appendBytes(body, 3, data)
	}
	return request(typePubSub, fieldPubSub, body)
}

// fields calls each with the fields of a message; a number's value is in the first, that of bytes in the second.
func fields(message []byte, each func(field protowire.Number, number uint64, value []byte)) error {
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return errMalformed
		}
		message = message[size:]
		var number uint64
		var value []byte
		switch kind {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		default:
			return errMalformed
		}
		if size < 0 {
			return errMalformed
		}
		message = message[size:]
		each(field, number, value)
	}
	return nil
}

// values are those of one field that holds bytes.
func values(message []byte, wanted protowire.Number) (found [][]byte, err error) {
	err = fields(message, func(field protowire.Number, _ uint64, value []byte) {
		if field == wanted {
			found = append(found, value)
		}
	})
	return found, err
}

// control is a connection to the daemon. What is read ahead of a stream stays in the reader.
type control struct {
	net.Conn
	reader *bufio.Reader
	writer *bufio.Writer
}

func dial(socket string) (*control, error) {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return newControl(connection), nil
}

func newControl(connection net.Conn) *control {
	return &control{connection, bufio.NewReader(connection), bufio.NewWriter(connection)}
}

func (c *control) Read(target []byte) (int, error) { return c.reader.Read(target) }

func (c *control) write(message []byte) error {
	var length [binary.MaxVarintLen64]byte
	if _, err := c.writer.Write(length[:binary.PutUvarint(length[:], uint64(len(message)))]); err != nil {
		return err
	}
	_, err := c.writer.Write(message)
	return err
}

func (c *control) read() ([]byte, error) {
	length, err := binary.ReadUvarint(c.reader)
	if err != nil {
		return nil, err
	}
	if length > longestFrame {
		return nil, errMalformed
	}
	message := make([]byte, length)
	_, err = io.ReadFull(c.reader, message)
	return message, err
}

// response reads one, and gives the field asked for. What the daemon says has gone wrong is an error.
func (c *control) response(wanted protowire.Number) ([]byte, error) {
	message, err := c.read()
	if err != nil {
		return nil, err
	}
	var kind uint64
	var failure, found []byte
	err = fields(message, func(field protowire.Number, number uint64, value []byte) {
		switch field {
		case fieldType:
			kind = number
		case responseError:
			failure = value
		case wanted:
			found = value
		}
	})
	if err == nil && kind != responseOK {
		texts, _ := values(failure, 1)
		err = fmt.Errorf("p2pd: %s", texts)
	}
	return found, err
}

func (c *control) call(message []byte, wanted protowire.Number) ([]byte, error) {
	if err := c.write(message); err != nil {
		return nil, err
	}
	if err := c.writer.Flush(); err != nil {
		return nil, err
	}
	return c.response(wanted)
}
