package dev.sfumato.core

/** Something a person can act on. The message is one line: what was given, what is allowed, what to do. */
open class SfumatoException(message: String) : Exception(message)

/** Its message, or its kind where it has none: exceptions of an interrupted channel, among others, have none. */
val Throwable.reason: String get() = message ?: javaClass.simpleName

/** One sentence for whatever was thrown. What nobody foresaw is told by its kind: its message may hold a path, or several lines. */
fun Throwable.inWords(problem: String): String = if (this is SfumatoException) message.orEmpty() else "$problem (${javaClass.simpleName})"
