package resolver

// WithAuthorityPort sets the port of the servers of a zone, which is 53 for everybody else.
func WithAuthorityPort(o *Options, port uint16) { o.authorityPort = port }
