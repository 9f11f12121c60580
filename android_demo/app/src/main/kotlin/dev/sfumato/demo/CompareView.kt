/** Two pictures of one shape, whatever their sizes, on one place: the first left of a line, the second right of it. */
package dev.sfumato.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Rect
import android.util.AttributeSet
import android.view.View

class CompareView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint().apply { isFilterBitmap = false }
    private val line = Paint().apply { strokeWidth = 2 * resources.displayMetrics.density }
    private var left: Bitmap? = null
    private var right: Bitmap? = null

    /** Share of the first picture, 0..1. */
    var share = 0.5f
        set(value) {
            field = value
            invalidate()
        }

    fun show(left: Bitmap?, right: Bitmap?, lineColour: Int) {
        this.left = left
        this.right = right
        line.color = lineColour
        invalidate()
    }

    /** As wide as it may be, but no higher than the screen is wide or high: a square fits both ways. */
    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) {
        val metrics = resources.displayMetrics
        val most = minOf(metrics.widthPixels, metrics.heightPixels)
        val side = minOf(MeasureSpec.getSize(widthMeasureSpec), most)
        setMeasuredDimension(MeasureSpec.getSize(widthMeasureSpec), side)
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val first = left ?: return
        val second = right ?: return
        val scale = minOf(width.toFloat() / first.width, height.toFloat() / first.height)
        val place = Rect(0, 0, (first.width * scale).toInt(), (first.height * scale).toInt())
        place.offset((width - place.width()) / 2, (height - place.height()) / 2)
        val split = place.left + (place.width() * share).toInt()
        canvas.drawBitmap(second, null, place, paint)
        canvas.save()
        canvas.clipRect(place.left, place.top, split, place.bottom)
        canvas.drawBitmap(first, null, place, paint)
        canvas.restore()
        canvas.drawLine(split.toFloat(), place.top.toFloat(), split.toFloat(), place.bottom.toFloat(), line)
    }
}
