package dev.sfumato.core

/** Something a person can act on. The message is one line: what was given, what is allowed, what to do. */
open class SfumatoException(message: String) : Exception(message)
