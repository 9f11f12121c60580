/** What of a picture the model sees, and where that lies on the screen. */
package dev.sfumato.demo

import dev.sfumato.core.Photo
import dev.sfumato.core.Picture
import kotlin.math.roundToInt

/** Pixels of a picture. */
data class Shape(val height: Int, val width: Int)

/** A part of the screen, in its pixels; the right column and the bottom row are outside. */
data class Place(val left: Int, val top: Int, val right: Int, val bottom: Int) {
    val width get() = right - left
    val height get() = bottom - top
}

/**
 * The [photo] as the model sees it, of [input]'s shape, but as fine as [most] pixels of screen can show: the largest multiple of the
 * input's size that neither photo nor screen falls short of. `fit` crops a multiple to the same pixels.
 */
internal fun forScreen(photo: Photo, input: Picture, most: Int): Picture {
    val times = minOf(minOf(most, photo.height) / input.height, minOf(most, photo.width) / input.width)
    return if (times <= 1) input else photo.fit(times * input.height, times * input.width)
}

/** The largest place of this [shape] around the middle of [within]. */
internal fun centred(shape: Shape, within: Place): Place {
    val scale = minOf(within.width.toDouble() / shape.width, within.height.toDouble() / shape.height)
    val width = (shape.width * scale).roundToInt()
    val height = (shape.height * scale).roundToInt()
    val left = within.left + (within.width - width) / 2
    val top = within.top + (within.height - height) / 2
    return Place(left, top, left + width, top + height)
}
