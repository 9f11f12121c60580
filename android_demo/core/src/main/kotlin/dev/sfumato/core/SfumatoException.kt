package dev.sfumato.core

/** Something a person can act on. The message is one line: what was given, what is allowed, what to do. */
public open class SfumatoException(message: String) : Exception(message)

/** Its message, or its kind where it has none: exceptions of an interrupted channel, among others, have none. */
internal val Throwable.reason: String get() = message ?: javaClass.simpleName
