/** What was thrown, in words for the screen. */
package dev.sfumato.demo

import dev.sfumato.core.SfumatoException

/** Its message, or its kind where it has none: exceptions of an interrupted channel, among others, have none. */
internal val Throwable.reason: String get() = message ?: javaClass.simpleName

/** One sentence for whatever was thrown. What nobody foresaw is told by its kind: its message may hold a path, or several lines. */
internal fun Throwable.inWords(problem: String): String =
    if (this is SfumatoException) message.orEmpty() else "$problem (${javaClass.simpleName})"
