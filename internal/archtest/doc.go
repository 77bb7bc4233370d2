// Package archtest holds the import law of the project and checks the source
// against it: a law in a small language and the imports of every file in,
// violations out. It is used by its own tests only.
//
// The language has one statement a line, and # begins a comment:
//
//	a, b               the lowest level; "std" stands for the standard library
//	< c, d             the next level: its packages may import those of lower levels
//	never c -> a, b    an arrow that the levels would allow and we do not want; * is any package
//	only example.org/module: a, b    the packages that may import a module of others
//	tests a, b         packages for tests: no file but a test may import them
//
// Packages of one level do not import each other. Tests may import what they
// like, except what "never *" forbids. A package that stands on no line and a
// module that has no "only" line are violations too, so that a new one is a
// decision and not an accident.
package archtest
