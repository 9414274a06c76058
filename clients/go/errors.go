package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The kinds of errors, one for each reason that the sidecar gives. Ask with [errors.Is]; a kind is also all that it
// stands below:
//
//	ErrSidecar
//	├── ErrSidecarUnavailable      no sidecar answers at the target
//	├── ErrInvalidArgument         malformed input; Field names it
//	│   ├── ErrInvalidPeerId
//	│   ├── ErrInvalidMultiaddr
//	│   ├── ErrSelfDial            the peer named is this node itself
//	│   └── ErrTooLarge
//	├── ErrNotFound
//	├── ErrAlreadyExists
//	├── ErrNotSupported            nobody serves that protocol there
//	├── ErrUnreachable             the peer did not answer
//	│   ├── ErrNoAddresses
//	│   ├── ErrDialTimeout
//	│   ├── ErrDialBackoff
//	│   └── ErrNoQuorum            fewer peers than asked for took a record
//	├── ErrClosed                  the connection ended, or the sidecar stops
//	│   └── ErrStreamReset
//	├── ErrProtocolError           the peer broke a protocol
//	│   ├── ErrFrameTooLarge
//	│   ├── ErrHandshakeError
//	│   │   ├── ErrHandshakeTimeout
//	│   │   └── ErrWrongPrivateNetwork
//	│   ├── ErrKeepAliveTimeout
//	│   └── ErrWriteStalled
//	├── ErrWrongPeer               another key answered
//	├── ErrWrongNetwork            the peer belongs to another network
//	├── ErrPeerBanned              the sidecar refuses the peer or its address
//	├── ErrUnauthenticated         the token is missing or wrong
//	├── ErrPermissionDenied        the token does not allow the call
//	├── ErrOutdated                a better value of the record is known already
//	├── ErrRefused                 the app there refused; its reason is the message
//	├── ErrTopicOptionsDiffer      the topic is in use with another signing
//	├── ErrResourceExhausted       a bound is reached
//	│   ├── ErrQueueFull
//	│   ├── ErrTooManyConnections
//	│   ├── ErrSlowReader          a subscription ended, as its policy wants
//	│   ├── ErrWorkExceeded        the peer was sent away for needless work
//	│   └── ErrQuotaExceeded       the token has used up one of its quotas
//	├── ErrDeadlineExceeded        also context.DeadlineExceeded
//	├── ErrFailedPrecondition      any other state that forbids the call
//	└── ErrInternalError           the sidecar failed; its log says more
//	    └── ErrStorageError
//
// A call whose context was cancelled fails with an error that is [context.Canceled], and of none of these kinds.
var (
	ErrSidecar             = newKind("SidecarError", nil)
	ErrSidecarUnavailable  = newKind("SidecarUnavailable", ErrSidecar)
	ErrInvalidArgument     = newKind("InvalidArgument", ErrSidecar)
	ErrInvalidPeerId       = newKind("InvalidPeerId", ErrInvalidArgument) //nolint:revive // named as in the other clients
	ErrInvalidMultiaddr    = newKind("InvalidMultiaddr", ErrInvalidArgument)
	ErrSelfDial            = newKind("SelfDial", ErrInvalidArgument)
	ErrTooLarge            = newKind("TooLarge", ErrInvalidArgument)
	ErrNotFound            = newKind("NotFound", ErrSidecar)
	ErrAlreadyExists       = newKind("AlreadyExists", ErrSidecar)
	ErrNotSupported        = newKind("NotSupported", ErrSidecar)
	ErrUnreachable         = newKind("Unreachable", ErrSidecar)
	ErrNoAddresses         = newKind("NoAddresses", ErrUnreachable)
	ErrDialTimeout         = newKind("DialTimeout", ErrUnreachable)
	ErrDialBackoff         = newKind("DialBackoff", ErrUnreachable)
	ErrNoQuorum            = newKind("NoQuorum", ErrUnreachable)
	ErrClosed              = newKind("Closed", ErrSidecar)
	ErrStreamReset         = newKind("StreamReset", ErrClosed)
	ErrProtocolError       = newKind("ProtocolError", ErrSidecar)
	ErrFrameTooLarge       = newKind("FrameTooLarge", ErrProtocolError)
	ErrHandshakeError      = newKind("HandshakeError", ErrProtocolError)
	ErrHandshakeTimeout    = newKind("HandshakeTimeout", ErrHandshakeError)
	ErrWrongPrivateNetwork = newKind("WrongPrivateNetwork", ErrHandshakeError)
	ErrKeepAliveTimeout    = newKind("KeepAliveTimeout", ErrProtocolError)
	ErrWriteStalled        = newKind("WriteStalled", ErrProtocolError)
	ErrWrongPeer           = newKind("WrongPeer", ErrSidecar)
	ErrWrongNetwork        = newKind("WrongNetwork", ErrSidecar)
	ErrPeerBanned          = newKind("PeerBanned", ErrSidecar)
	ErrUnauthenticated     = newKind("Unauthenticated", ErrSidecar)
	ErrPermissionDenied    = newKind("PermissionDenied", ErrSidecar)
	ErrOutdated            = newKind("Outdated", ErrSidecar)
	ErrRefused             = newKind("Refused", ErrSidecar)
	ErrTopicOptionsDiffer  = newKind("TopicOptionsDiffer", ErrSidecar)
	ErrResourceExhausted   = newKind("ResourceExhausted", ErrSidecar)
	ErrQueueFull           = newKind("QueueFull", ErrResourceExhausted)
	ErrTooManyConnections  = newKind("TooManyConnections", ErrResourceExhausted)
	ErrSlowReader          = newKind("SlowReader", ErrResourceExhausted)
	ErrWorkExceeded        = newKind("WorkExceeded", ErrResourceExhausted)
	ErrQuotaExceeded       = newKind("QuotaExceeded", ErrResourceExhausted)
	ErrDeadlineExceeded    = newKind("DeadlineExceeded", ErrSidecar)
	ErrFailedPrecondition  = newKind("FailedPrecondition", ErrSidecar)
	ErrInternalError       = newKind("InternalError", ErrSidecar)
	ErrStorageError        = newKind("StorageError", ErrInternalError)
)

// kind is a class of errors; its parent holds more of them.
type kind struct {
	name   string
	parent *kind
}

// kinds has all kinds by the reason that the sidecar gives.
var kinds = map[string]*kind{}

func newKind(name string, parent error) error {
	made := &kind{name: name}
	if parent != nil {
		made.parent = parent.(*kind)
	}
	kinds[reasonOf(name)] = made
	return made
}

// Error is the kind's name.
func (k *kind) Error() string { return k.name }

// reasonOf turns DialTimeout into DIAL_TIMEOUT.
func reasonOf(name string) string {
	var reason strings.Builder
	for index, letter := range name {
		if index > 0 && unicode.IsUpper(letter) {
			reason.WriteByte('_')
		}
		reason.WriteRune(unicode.ToUpper(letter))
	}
	return reason.String()
}

var kindByCode = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalidArgument,
	codes.NotFound:           ErrNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.Unimplemented:      ErrNotSupported,
	codes.Unavailable:        ErrSidecarUnavailable,
	codes.FailedPrecondition: ErrFailedPrecondition,
	codes.ResourceExhausted:  ErrResourceExhausted,
	codes.DeadlineExceeded:   ErrDeadlineExceeded,
	codes.Canceled:           ErrClosed,
	codes.Unauthenticated:    ErrUnauthenticated,
	codes.PermissionDenied:   ErrPermissionDenied,
}

// Error is any error of this client but those of a cancelled context. Get at it with [errors.As].
type Error struct {
	// Kind is the most exact of the kinds above, such as ErrDialTimeout.
	Kind error
	// Message is a sentence for a person.
	Message string
	// Reason is the sidecar's word for it, such as DIAL_TIMEOUT; empty where it gave none.
	Reason string
	// Field names the malformed field; empty where none is.
	Field string
	// RetryAfter says after how long trying again makes sense; 0 where that is not said.
	RetryAfter time.Duration
	// Code is the gRPC status code; codes.OK where the error came from no call.
	Code codes.Code

	cause  error
	status *status.Status
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Name is the kind's name, the same in the clients of all languages: "DialTimeout".
func (e *Error) Name() string { return e.Kind.Error() }

// Is tells whether the error is of a kind, or of one below it.
func (e *Error) Is(target error) bool {
	wanted, ok := target.(*kind)
	if !ok {
		return false
	}
	for mine, _ := e.Kind.(*kind); mine != nil; mine = mine.parent {
		if mine == wanted {
			return true
		}
	}
	return false
}

// Unwrap gives what lies behind the error: context.DeadlineExceeded, net.ErrClosed or an error of the file system.
func (e *Error) Unwrap() error { return e.cause }

// Timeout tells whether it was not done in time.
func (e *Error) Timeout() bool { return errors.Is(e.cause, context.DeadlineExceeded) }

// GRPCStatus is the gRPC status with all its details, as the call ended; status.FromError and status.Code find it.
func (e *Error) GRPCStatus() *status.Status {
	if e.status != nil {
		return e.status
	}
	if e.Code == codes.OK {
		return status.New(codes.Unknown, e.Message)
	}
	return status.New(e.Code, e.Message)
}

// Details are the details of the gRPC status: google.rpc.ErrorInfo, BadRequest, RetryInfo.
func (e *Error) Details() []any {
	if e.status == nil {
		return nil
	}
	return e.status.Details()
}

// Refuse makes the error with which a [Handler] refuses a request. The asker gets ErrRefused with this text, of which at
// most 1024 bytes are sent.
func Refuse(reason string) error { return &Error{Kind: ErrRefused, Message: reason} }

func newError(kind error, format string, values ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, values...)}
}

func badField(field, format string, values ...any) *Error {
	return &Error{Kind: ErrInvalidArgument, Message: fmt.Sprintf(format, values...), Field: field}
}

// fromStatus is the typed error of a call that ended with a status.
func fromStatus(ended *status.Status) *Error {
	failure := &Error{Message: ended.Message(), Code: ended.Code(), status: ended}
	if failure.Message == "" {
		failure.Message = ended.Code().String()
	}
	for _, detail := range ended.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Field = violation.GetField()
				break
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if known, ok := kinds[failure.Reason]; ok {
		failure.Kind = known
	} else if known, ok := kindByCode[ended.Code()]; ok {
		failure.Kind = known
	} else {
		failure.Kind = ErrInternalError
	}
	if failure.Reason == "" {
		switch {
		case failure.Kind == ErrResourceExhausted && strings.Contains(failure.Message, "larger than max"):
			failure.Kind = ErrTooLarge // gRPC itself refuses what is over the sidecar's bound on calls
		case ended.Code() == codes.Internal && strings.Contains(failure.Message, "error while marshaling"):
			failure.Kind = ErrInvalidArgument // a text that is not UTF-8
		}
	}
	if failure.Kind == ErrDeadlineExceeded {
		failure.cause = context.DeadlineExceeded
	}
	return failure
}

// ofContext is the error of a call whose context is over.
func ofContext(ctx context.Context, name string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{
			Kind:    ErrDeadlineExceeded,
			Message: name + ": not done in time",
			Code:    codes.DeadlineExceeded,
			cause:   context.DeadlineExceeded,
		}
	}
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%s: %w: %w", name, ctx.Err(), cause)
	}
	return fmt.Errorf("%s: %w", name, ctx.Err())
}

// lost tells whether a call ended so since the sidecar is gone, or going.
func lost(err error) bool {
	return errors.Is(err, ErrSidecarUnavailable) || errors.Is(err, ErrClosed) && !errors.Is(err, ErrStreamReset)
}

// ended turns the end of a stream, where it was not to end, into an error.
func ended(err error, name string) error {
	if errors.Is(err, io.EOF) {
		return newError(ErrClosed, "the sidecar ended %s", name)
	}
	return err
}
