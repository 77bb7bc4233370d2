package mail

import "strings"

// The media types of mail system reports (RFC 6522, RFC 3798, RFC 3464) and
// their siblings for internationalized mail (RFC 6533), whose fields are the same.
const (
	TypeReport                        = "multipart/report"
	TypeDispositionNotification       = "message/disposition-notification"
	TypeDeliveryStatus                = "message/delivery-status"
	TypeGlobalDispositionNotification = "message/global-disposition-notification"
	TypeGlobalDeliveryStatus          = "message/global-delivery-status"
)

// IsReport tells a mail system report by its header alone: a multipart/report,
// whatever its parameters and even where they cannot be read, or one of the
// machine-readable types by itself. It errs towards yes, also with two
// Content-Type fields, because a report must never be answered by a report.
func (h Header) IsReport() bool {
	for _, v := range h.All("Content-Type") {
		mediaType := strings.TrimSpace(stripComments(strings.ToLower(v)))
		for _, prefix := range []string{TypeReport, TypeDispositionNotification, TypeDeliveryStatus, TypeGlobalDispositionNotification, TypeGlobalDeliveryStatus} {
			if strings.HasPrefix(mediaType, prefix) {
				return true
			}
		}
	}
	return false
}
