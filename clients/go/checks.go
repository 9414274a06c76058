package sidecar

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// checkRequest finds what protobuf would not take, which gRPC would call an internal error: texts that are not UTF-8.
func checkRequest(request any) error {
	message, ok := request.(proto.Message)
	if !ok {
		return nil // it is encoded already, of what was checked
	}
	var found error
	message.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() != protoreflect.StringKind || field.IsMap() {
			return true
		}
		name := string(field.Name())
		if !field.IsList() {
			found = checkText(name, value.String())
			return found == nil
		}
		for i := 0; i < value.List().Len() && found == nil; i++ {
			found = checkText(name, value.List().Get(i).String())
		}
		return found == nil
	})
	return found
}

// checkText finds texts that protobuf does not take.
func checkText(field, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return badField(field, "%s is not UTF-8: %q", field, text)
}
