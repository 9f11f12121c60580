package dev.sfumato.demo

/**
 * Shows a value when it is another one than before.
 *
 * A state arrives with every frame of the camera. A menu shows what was tapped before a state says so, and a text is typed over several
 * frames: written with every state, both would be what they were before.
 */
class OnChange<T : Any>(private val show: (T) -> Unit) {
    private var last: T? = null

    operator fun invoke(value: T) {
        if (value == last) return
        last = value
        show(value)
    }
}
